package dispatch

import (
	"context"
	"errors"
	"slices"
	"strings"

	"slipway/kube"
	"slipway/prefect"
)

// labelRun is on every Job of a flow run, whoever made it.
const labelRun = "prefect.io/flow-run-id"

// SweepReport is the result of one sweep of one work pool.
type SweepReport struct {
	Pool     string     `json:"pool"`
	Looked   int        `json:"looked"` // runs and Jobs that were judged
	Mended   int        `json:"mended"`
	Failed   int        `json:"failed"`           // remedies that could not be applied
	Ending   bool       `json:"ending,omitempty"` // pods of cancelled runs are ending: another sweep soon says so
	Warnings []string   `json:"warnings,omitempty"`
	Error    string     `json:"error,omitempty"`
	Rows     []SweepRow `json:"rows"`
}

// SweepRow is one judgement.
type SweepRow struct {
	ID      string `json:"id"` // of the flow run
	Name    string `json:"name,omitempty"`
	State   string `json:"state"` // DELETED for a run that is gone
	Job     string `json:"job,omitempty"`
	Remedy  Remedy `json:"remedy"`
	Reason  string `json:"reason"`
	Done    bool   `json:"done"`              // the remedy was applied
	Outcome string `json:"outcome,omitempty"` // what came of it
}

// SweepRequest says what a sweep looks at.
type SweepRequest struct {
	WorkPools []string
	DryRun    bool // judge, and mend nothing
}

// Sweep repairs what dispatchers, workers and pods left behind, from two lists
// and without any state of its own. Running it twice, or beside another, mends
// nothing twice.
func (d *Dispatcher) Sweep(ctx context.Context, req SweepRequest) ([]SweepReport, error) {
	var reports []SweepReport
	var errs []error
	for _, name := range req.WorkPools {
		s := newSweep(d.newPass(name, Request{}), req.DryRun)
		err := s.run(ctx)
		s.sendLogs(ctx)
		s.report.Warnings = append(s.report.Warnings, s.pass.report.Warnings...)
		if err != nil {
			s.report.Error = s.plain(err)
			errs = append(errs, err)
		}
		reports = append(reports, s.report)
	}
	return reports, errors.Join(errs...)
}

func newSweep(p *pass, dry bool) *sweep {
	return &sweep{pass: p, dry: dry, report: SweepReport{Pool: p.report.Pool, Rows: []SweepRow{}}}
}

// sweep is one look at one work pool.
type sweep struct {
	*pass
	dry    bool
	report SweepReport

	jobs    []kube.JobStatus
	byRun   map[string][]int // indices of jobs, by flow run id
	whole   map[string]bool  // namespaces whose list is whole; "" for all
	waiting []waitingRun
	events  []prefect.Event
}

func (s *sweep) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.meetServer, s.meetCluster, s.readPool} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.look(ctx)
}

// look judges and mends, in a pass that has met its servers.
func (s *sweep) look(ctx context.Context) error {
	runs, err := s.Prefect.FlowRuns(ctx, prefect.RunFilter{
		WorkPool: s.report.Pool, StateTypes: []string{"PENDING", "RUNNING", "CANCELLING"}, StateNames: []string{"AwaitingRetry"},
	})
	if err != nil {
		return prefectError(ctx, "list the active flow runs", err)
	}
	s.listJobs(ctx, runs)
	ended, err := s.runsOfJobs(ctx, runs)
	if err != nil {
		return err
	}
	for i := range runs {
		s.judge(ctx, &runs[i])
	}
	s.judgeJobs(ctx, runs, ended)
	s.judgeWaiting(ctx)
	s.sendEvents(ctx)
	return nil
}

// listJobs lists the Jobs of flow runs: in the namespaces that the settings name,
// else in all, and where that is not allowed, in those that the work pool uses.
func (s *sweep) listJobs(ctx context.Context, runs []prefect.FlowRun) {
	defer s.indexJobs()
	s.whole = map[string]bool{}
	namespaces := slices.Clone(s.Namespaces)
	var guessed []string
	if len(namespaces) == 0 {
		jobs, err := s.Kube.Jobs(ctx, "", labelRun)
		if err == nil {
			s.jobs, s.whole[""] = jobs, true
			return
		}
		namespaces, guessed = s.namespacesOfDeployments(ctx), s.template.Namespaces()
	}
	for _, run := range runs {
		if namespace, _, err := placeOf(run.InfrastructurePID); err == nil {
			namespaces = append(namespaces, namespace)
		}
	}
	all := slices.Concat(namespaces, guessed)
	slices.Sort(all)
	for _, namespace := range slices.Compact(all) {
		jobs, err := s.Kube.Jobs(ctx, namespace, labelRun)
		if err != nil && kube.KindOf(err) == kube.Refused && !slices.Contains(namespaces, namespace) {
			continue // no Job of Slipway's can be there
		}
		if err != nil {
			s.report.Warnings = append(s.report.Warnings, s.plain(err)+": nothing there is judged")
			continue
		}
		s.jobs, s.whole[namespace] = append(s.jobs, jobs...), true
	}
}

// namespacesOfDeployments are those that job variables of the work pool's
// deployments name. What a run's own job variables name, its pid tells.
func (s *sweep) namespacesOfDeployments(ctx context.Context) []string {
	deployments, err := s.Prefect.DeploymentsOfPool(ctx, s.report.Pool)
	if err != nil {
		s.miss(err, "Jobs of its deployments' own namespaces are not judged; SLIPWAY_NAMESPACES can name them")
	}
	var namespaces []string
	for _, d := range deployments {
		if d.JobVariables.Namespace != "" {
			namespaces = append(namespaces, d.JobVariables.Namespace)
		}
	}
	return namespaces
}

// indexJobs finds the Jobs of each run, and turns their times into those of the
// Prefect server's clock, with which they are compared.
func (s *sweep) indexJobs() {
	s.byRun = map[string][]int{}
	shift := s.Prefect.Skew() - s.Kube.Skew()
	for i := range s.jobs {
		job := &s.jobs[i]
		job.Created = job.Created.Add(shift)
		if !job.FinishedAt.IsZero() {
			job.FinishedAt = job.FinishedAt.Add(shift)
		}
		id := strings.ToLower(job.Labels[labelRun])
		s.byRun[id] = append(s.byRun[id], i)
	}
}

func (s *sweep) sees(namespace string) bool { return s.whole[""] || s.whole[namespace] }

// runsOfJobs reads the runs of Slipway's own Jobs that are not among the active
// ones; nil for one that is deleted.
func (s *sweep) runsOfJobs(ctx context.Context, active []prefect.FlowRun) (map[string]*prefect.FlowRun, error) {
	known := map[string]bool{}
	for _, run := range active {
		known[strings.ToLower(run.ID)] = true
	}
	ids := []string{}
	for _, job := range s.jobs {
		id := strings.ToLower(job.Labels[labelRun])
		if !known[id] && s.minds(job) && !job.Complete && !job.Failed {
			known[id] = true
			ids = append(ids, id)
		}
	}
	ended := map[string]*prefect.FlowRun{}
	if len(ids) == 0 {
		return ended, nil
	}
	found, err := s.Prefect.FlowRuns(ctx, prefect.RunFilter{IDs: ids})
	if err != nil {
		return nil, prefectError(ctx, "read the flow runs of the Jobs", err)
	}
	for _, id := range ids {
		ended[id] = nil
	}
	for i := range found {
		ended[strings.ToLower(found[i].ID)] = &found[i]
	}
	return ended, nil
}

// isOurs tells whether a Job was made by Slipway for this cluster.
func (s *sweep) isOurs(job kube.JobStatus) bool {
	return job.Annotations[annotationCluster] == s.cluster &&
		IsClaim(s.cluster, job.Labels[labelRun], job.Annotations[annotationTransition])
}

// judgeJobs looks at Slipway's Jobs whose runs are not active.
func (s *sweep) judgeJobs(ctx context.Context, active []prefect.FlowRun, ended map[string]*prefect.FlowRun) {
	isActive := map[string]bool{}
	for _, run := range active {
		isActive[strings.ToLower(run.ID)] = true
	}
	for i, job := range s.jobs {
		id := strings.ToLower(job.Labels[labelRun])
		run, known := ended[id]
		if isActive[id] || !known || !s.minds(job) {
			continue
		}
		one := suspect{run: run, job: &s.jobs[i], whose: ours, sure: true}
		row := SweepRow{ID: id, State: "DELETED"}
		if run != nil {
			row.Name, row.State = run.Name, run.StateType
			if run.StateType == "SCHEDULED" {
				continue // its engine will try again, or the next claim gets a Job of its own
			}
		}
		s.mend(ctx, one, row)
	}
}
