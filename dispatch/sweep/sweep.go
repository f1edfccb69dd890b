package sweep

import (
	"context"
	"log/slog"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/dispatch/workpool"
	"slipway/prefect"
)

// Request says what a sweep looks at.
type Request struct {
	WorkPools []string
	DryRun    bool // decide, and repair nothing
}

// sweep is one of one work pool.
type sweep struct {
	session *workpool.Session
	dry     bool
	report  *report.Sweep
	events  events // of pods, for the end of the sweep

	byRun map[string][]*listed // unfinished Jobs of this work pool, by flow run id
}

// Run repairs one work pool, and adds to the report a row for each run that needed a
// look. Running it twice, or beside another, repairs nothing twice. Errors are
// *workpool.Error.
func Run(ctx context.Context, session *workpool.Session, dry bool, r *report.Sweep) error {
	s := &sweep{session: session, dry: dry, report: r, byRun: map[string][]*listed{}}
	s.listJobs(ctx)
	subjects, err := s.triage(ctx)
	if err != nil {
		return err
	}
	rows := s.judgeAll(ctx, subjects)
	s.sendEvents(ctx)
	for i := range rows {
		for _, row := range rows[i] {
			r.Add(row, dry)
		}
	}
	if ctx.Err() != nil {
		return workpool.Interrupt(ctx)
	}
	return nil
}

// judgeAll looks at the subjects, several at once and in an order that differs from
// sweep to sweep: whatever the time allows, none is always the last.
func (s *sweep) judgeAll(ctx context.Context, subjects []*subject) [][]report.Row {
	rows := make([][]report.Row, len(subjects))
	var group errgroup.Group
	group.SetLimit(max(s.session.Options.Concurrency, 1))
	for _, i := range order(subjects) {
		group.Go(func() error {
			if ctx.Err() == nil {
				rows[i] = s.judge(ctx, subjects[i])
			}
			return nil
		})
	}
	_ = group.Wait() // the goroutines return nil
	if ctx.Err() != nil {
		s.session.Warn("not every flow run was looked at: %v; the next sweep goes on", context.Cause(ctx))
	}
	return rows
}

// maxUnknown bounds the runs without a Job in the list that one sweep looks at: where a
// Python worker or another cluster serves the work pool too, nearly all are theirs.
const maxUnknown = 500

// order puts those that there is evidence about first, each part in random order.
func order(subjects []*subject) []int {
	var known, unknown []int
	for _, i := range rand.Perm(len(subjects)) { //nolint:gosec // no secret depends on it
		if subjects[i].unknown {
			unknown = append(unknown, i)
		} else {
			known = append(known, i)
		}
	}
	return append(known, unknown[:min(len(unknown), maxUnknown)]...)
}

// isSomebodyElses tells whether the Job that a run's pid names is there and was not made
// by Slipway, nor is to be adopted.
func (s *sweep) isSomebodyElses(ctx context.Context, pid claim.Place) bool {
	if !pid.Known() || s.session.Options.Adopt {
		return false
	}
	job, err := s.session.Kube.Job(ctx, pid.Namespace, pid.Name)
	return err == nil && job.Annotations[claim.AnnotationID] == ""
}

// judge looks at one run, decides, and applies the decisions.
func (s *sweep) judge(ctx context.Context, subject *subject) []report.Row {
	if subject.row != nil {
		return []report.Row{*subject.row}
	}
	if subject.unknown && s.isSomebodyElses(ctx, subject.pid) {
		return []report.Row{{ID: subject.id, State: subject.state, Job: subject.pid.String(), Action: report.LeaveAlone, Reason: "its Job is somebody else's"}}
	}
	world, run, err := Look(ctx, s.session, subject.id, subject.jobs)
	if err != nil {
		reason := s.session.Text(err)
		s.session.Warn("flow run %s could not be judged: %s", subject.id, reason)
		return []report.Row{{ID: subject.id, State: subject.state, Action: report.LeaveAlone, Reason: reason}}
	}
	var rows []report.Row
	for _, d := range Decide(&world, s.session.ServerNow(), GracesOf(s.session.Options)) {
		rows = append(rows, s.carryOut(ctx, world, run, d))
	}
	return rows
}

// carryOut applies one decision, unless this is a dry run, and tells of it.
func (s *sweep) carryOut(ctx context.Context, w World, run *prefect.FlowRun, d Decision) report.Row {
	redactor := s.session.Options.Redactor
	row := report.Row{ID: w.RunID, Name: w.Name, State: w.State, Action: d.Action, Reason: redactor.Text(d.Reason)}
	if d.Job.Place.Known() && d.Job.State != Absent {
		row.Job = d.Job.Place.String()
	}
	if !s.dry {
		a := &application{sweep: s, world: w, run: run, decision: d}
		result := a.apply(ctx)
		row.Done, row.Outcome = result.done, redactor.Text(result.text)
		if result.moved { // somebody else has repaired it, or it was never broken
			row.Action, row.Reason, row.Outcome = report.LeaveAlone, row.Reason+"; and "+row.Outcome, ""
		}
	}
	if w.State == "CANCELLING" && d.Job.State.Live() {
		s.markEnding()
	}
	if row.Action.Repairs() && !s.dry {
		s.session.Options.Log.LogAttrs(ctx, slog.LevelInfo, "repair",
			slog.String("work_pool", s.report.Pool), slog.String("flow_run_id", row.ID), slog.String("state", row.State),
			slog.String("job", row.Job), slog.String("action", string(row.Action)), slog.String("reason", row.Reason),
			slog.Bool("done", row.Done), slog.String("outcome", row.Outcome))
	}
	return row
}

// GracesOf are those of the settings.
func GracesOf(o workpool.Options) Graces {
	return Graces{Orphan: o.OrphanGrace, Foreign: o.ForeignOrphanGrace, Settle: o.SettleGrace, Claim: o.Deadline, Limits: o.StartLimits}
}

func (s *sweep) miss(err error, consequence string) {
	s.session.Warn("%v; %s", err, consequence)
}
