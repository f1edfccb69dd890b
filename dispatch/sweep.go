package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// labelRun is on every Job of a flow run, whoever made it.
const labelRun = "prefect.io/flow-run-id"

// SweepReport is the result of one sweep of one work pool.
type SweepReport struct {
	Pool     string     `json:"pool"`
	Looked   int        `json:"looked"` // runs and Jobs that were judged
	Mended   int        `json:"mended"`
	Failed   int        `json:"failed"` // remedies that could not be applied
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

	jobs  []kube.JobStatus
	whole map[string]bool // namespaces whose list is whole; "" for all
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
	runs, err := s.Prefect.FlowRuns(ctx, prefect.RunFilter{WorkPool: s.report.Pool, StateTypes: []string{"PENDING", "RUNNING", "CANCELLING"}})
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
	return nil
}

// listJobs lists the Jobs of flow runs: of all namespaces where that is allowed,
// else of those that the runs' pids and the settings name.
func (s *sweep) listJobs(ctx context.Context, runs []prefect.FlowRun) {
	s.whole = map[string]bool{}
	jobs, err := s.Kube.Jobs(ctx, "", labelRun)
	if err == nil {
		s.jobs, s.whole[""] = jobs, true
		return
	}
	namespaces := slices.Clone(s.Namespaces)
	for _, run := range runs {
		if namespace, _, err := placeOf(run.InfrastructurePID); err == nil && !slices.Contains(namespaces, namespace) {
			namespaces = append(namespaces, namespace)
		}
	}
	for _, namespace := range namespaces {
		jobs, err := s.Kube.Jobs(ctx, namespace, labelRun)
		if err != nil {
			s.report.Warnings = append(s.report.Warnings, s.plain(err)+": nothing there is judged")
			continue
		}
		s.jobs, s.whole[namespace] = append(s.jobs, jobs...), true
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
		if !known[id] && s.isOurs(job) && !job.Complete && !job.Failed {
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

// judge looks at one active run.
func (s *sweep) judge(ctx context.Context, run *prefect.FlowRun) {
	row := SweepRow{ID: run.ID, Name: run.Name, State: run.StateType}
	suspect, err := s.suspect(ctx, run)
	if err != nil {
		row.Remedy, row.Reason = LeaveAlone, s.plain(err)
		s.report.Warnings = append(s.report.Warnings, fmt.Sprintf("flow run %s could not be judged: %s", run.ID, row.Reason))
		s.add(row)
		return
	}
	if suspect == nil {
		s.report.Looked++
		return
	}
	s.mend(ctx, *suspect, row)
}

// suspect gathers what decides about a run; nil if nothing can be wrong.
func (s *sweep) suspect(ctx context.Context, run *prefect.FlowRun) (*suspect, error) {
	one := &suspect{run: run}
	mine := s.jobsOf(run.ID)
	active := func(job kube.JobStatus) bool { return !job.Complete && !job.Failed }
	if run.StateType != "CANCELLING" && slices.ContainsFunc(mine, active) {
		return nil, nil // a Job of it is at work
	}
	claim := run.State
	if claim == nil || claim.Name != "Pending" || claim.Details.TransitionID == "" {
		var err error
		if claim, err = s.newestClaim(ctx, run.ID); err != nil {
			return nil, err
		}
	}
	one.claim = claim
	switch {
	case claim == nil:
	case IsClaim(s.cluster, run.ID, claim.Details.TransitionID):
		one.whose = ours
	default:
		one.whose = elsewhere
	}
	for i := range mine {
		switch {
		case claim != nil && strings.EqualFold(mine[i].Annotations[annotationTransition], claim.Details.TransitionID):
			one.job = &mine[i]
		case !mine[i].Failed:
			one.other = true
		}
	}
	return one, s.ascertain(ctx, one)
}

// ascertain asks for the Job by name where the list does not have it.
func (s *sweep) ascertain(ctx context.Context, one *suspect) error {
	namespace, name, err := placeOf(one.run.InfrastructurePID)
	if err == nil {
		one.sure = s.sees(namespace)
	} else {
		// Where a Job without a pid would be, only its rendering tells. To make the
		// Job of a claim is safe unseen: the one that may be there has its name.
		one.sure = s.whole[""] || one.run.StateType == "PENDING" && one.whose == ours
	}
	if one.job != nil || err != nil || one.whose != ours || !s.namesClaim(name, one.claim) {
		return nil
	}
	job, err := s.Kube.Job(ctx, namespace, name)
	switch {
	case err != nil && kube.KindOf(err) == kube.NotFound:
		one.gone = true
	case err != nil:
		return err
	default:
		one.job = &kube.JobStatus{Namespace: job.Namespace, Name: job.Name, UID: job.UID, Annotations: job.Annotations, Deleting: job.Deleting}
	}
	return nil
}

// namesClaim tells whether a Job's name is that of a claim.
func (s *sweep) namesClaim(name string, claim *prefect.State) bool {
	return claim != nil && strings.HasSuffix(name, jobName("", claim.Details.TransitionID))
}

func (s *sweep) jobsOf(run string) []kube.JobStatus {
	var found []kube.JobStatus
	for _, job := range s.jobs {
		if strings.EqualFold(job.Labels[labelRun], run) {
			found = append(found, job)
		}
	}
	return found
}

// newestClaim finds the newest state named exactly Pending: sub-states and the
// engine have put others in its place.
func (s *sweep) newestClaim(ctx context.Context, run string) (*prefect.State, error) {
	states, err := s.Prefect.FlowRunStates(ctx, run)
	if err != nil {
		return nil, err
	}
	var newest *prefect.State
	for i, state := range states {
		if state.Type == "PENDING" && state.Name == "Pending" && (newest == nil || state.Timestamp.After(newest.Timestamp)) {
			newest = &states[i]
		}
	}
	return newest, nil
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
		if isActive[id] || !known || !s.isOurs(job) {
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

// mend decides, asks the servers once more, and applies the remedy.
func (s *sweep) mend(ctx context.Context, one suspect, row SweepRow) {
	row.Remedy, row.Reason = one.remedy(s.Now(), s.graces())
	if one.job != nil {
		row.Job = one.job.Namespace + "/" + one.job.Name
	}
	if row.Remedy != LeaveAlone && !s.dry && !s.unchanged(ctx, row.ID, one.run) {
		// Its state is another by now, or it cannot be read: then nothing is certain.
		row.Remedy, row.Reason = LeaveAlone, row.Reason+"; and it has moved on meanwhile"
	}
	if row.Remedy != LeaveAlone && !s.dry {
		row.Done, row.Outcome = s.apply(ctx, row.Remedy, one, row.Reason)
		row.Outcome = s.redact(row.Outcome)
	}
	s.add(row)
}

func (s *sweep) add(row SweepRow) {
	s.report.Looked++
	switch {
	case row.Done:
		s.report.Mended++
	case row.Remedy != LeaveAlone && !s.dry:
		s.report.Failed++
	}
	s.report.Rows = append(s.report.Rows, row)
}

func (s *sweep) graces() Graces {
	return Graces{Orphan: s.OrphanGrace, Foreign: s.ForeignOrphanGrace, Settle: s.SettleGrace, Claim: s.Deadline}
}

// apply does what a remedy asks for.
func (s *sweep) apply(ctx context.Context, remedy Remedy, one suspect, why string) (bool, string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Deadline+lastAttempt)
	defer cancel()
	f := s.flightOf(one)
	switch remedy {
	case CreateJob:
		return s.createJob(ctx, f)
	case PutBack:
		f.putBack(ctx)
		return f.line.Outcome == Skipped, f.line.Reason
	case GiveBack:
		return s.proposed(ctx, f, state("SCHEDULED", "AwaitingRetry", why, map[string]any{"scheduled_time": stampOf(s.Now())}))
	case Crash:
		message := "Slipway: " + why + s.diagnose(ctx, one.job)
		f.tell(levelError, message)
		return s.proposed(ctx, f, state("CRASHED", "Crashed", f.redact(message), nil))
	case Cancel:
		return s.proposed(ctx, f, state("CANCELLED", "Cancelled", "", nil))
	case DeleteJob:
		if err := s.Kube.DeleteJob(ctx, one.job.Namespace, one.job.Name, one.job.UID); err != nil {
			return false, err.Error()
		}
		return true, "deleted " + one.job.Namespace + "/" + one.job.Name
	}
	return false, "no such remedy"
}

// unchanged reads the run again, as the second witness: the state that was judged
// must be its state still, and a run that the list left out must not exist.
func (s *sweep) unchanged(ctx context.Context, id string, judged *prefect.FlowRun) bool {
	now, err := s.Prefect.FlowRun(ctx, id)
	if judged == nil {
		return isNotFound(err)
	}
	return err == nil && now.StateID == judged.StateID
}

func (s *sweep) proposed(ctx context.Context, f *flight, proposal []byte) (bool, string) {
	verdict, err := s.Prefect.SetState(ctx, f.run.ID, prefect.Proposal{State: proposal})
	if err != nil {
		return false, err.Error()
	}
	return verdict.Status == "ACCEPT", verdict.Status + " " + verdict.Reason
}

// flightOf lets the sweep go on where a dispatcher stopped.
func (s *sweep) flightOf(one suspect) *flight {
	f := &flight{pass: s.pass, swept: true}
	if one.run != nil {
		f.run, f.line = *one.run, RunReport{ID: one.run.ID, Name: one.run.Name}
	}
	if one.claim != nil {
		f.claim = claim{id: one.claim.Details.TransitionID, at: s.Now()}
		if one.claim.Details.ScheduledTime != nil {
			f.claim.due = *one.claim.Details.ScheduledTime
		}
	}
	return f
}

// createJob makes the Job of a claim that its owner left, under the same name: if
// the owner lives and is slow, one of the two meets the other's Job.
func (s *sweep) createJob(ctx context.Context, f *flight) (bool, string) {
	if err := s.readOwners(ctx, []prefect.FlowRun{f.run}); err != nil {
		return false, err.Error()
	}
	job, err := f.render(ctx)
	var fault *render.Fault
	switch {
	case asFault(err, &fault):
		f.crash(ctx, "Slipway cannot render the Job of this flow run: "+fault.Error())
	case err != nil:
		return false, err.Error()
	default:
		f.job, f.name = job, jobName(job.NameBase, f.claim.id)
		f.submit(ctx)
	}
	return f.line.Outcome == Submitted || f.line.Outcome == Refused, strings.TrimSpace(string(f.line.Outcome) + " " + f.line.Reason)
}
