package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway/kube"
	"slipway/prefect"
)

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
	mine := s.jobsOf(run.ID)
	active := slices.IndexFunc(mine, func(job *kube.JobStatus) bool { return !job.Complete && !job.Failed })
	switch {
	case run.StateType == "SCHEDULED" && run.EmpiricalPolicy.RetryType != "in_process":
		return nil, nil // the poll returns it
	case run.StateType != "CANCELLING" && active >= 0:
		s.mayWait(run, mine[active])
		return nil, nil // a Job of it is at work
	}
	one := &suspect{run: run}
	if err := s.claimOf(ctx, one, mine); err != nil {
		return nil, err
	}
	if err := s.ascertain(ctx, one); err != nil {
		return nil, err
	}
	return one, s.adopt(ctx, one, mine)
}

// claimOf finds the run's current claim, and its Job among the run's.
func (s *sweep) claimOf(ctx context.Context, one *suspect, mine []*kube.JobStatus) error {
	run := one.run
	claim := run.State
	if claim == nil || claim.Name != "Pending" || claim.Details.TransitionID == "" {
		var err error
		if claim, err = s.newestClaim(ctx, run.ID); err != nil {
			return err
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
	for _, job := range mine {
		switch {
		case claim != nil && strings.EqualFold(job.Annotations[annotationTransition], claim.Details.TransitionID):
			one.job = job
		case !job.Failed && (!job.Complete || s.Now().Sub(job.FinishedAt) <= s.SettleGrace):
			one.other = true
		}
	}
	if one.job == nil || one.job.Complete || one.job.Failed {
		one.job = s.atWork(one, mine)
	}
	return nil
}

// atWork is, for a run that is being cancelled, a Job of an earlier claim whose
// pod has not ended: the claim's own has.
func (s *sweep) atWork(one *suspect, mine []*kube.JobStatus) *kube.JobStatus {
	for _, job := range mine {
		if one.run.StateType == "CANCELLING" && !job.Complete && !job.Failed && s.isOurs(*job) {
			one.other = false
			return job
		}
	}
	return one.job
}

// ascertain makes sure of a Job that the list does not have: it was never made, or
// it is gone.
func (s *sweep) ascertain(ctx context.Context, one *suspect) error {
	namespace, name, err := placeOf(one.run.InfrastructurePID)
	if err != nil || !s.namesClaim(name, one.claim) {
		return s.ascertainUnreported(ctx, one)
	}
	one.sure = s.sees(namespace)
	if one.job != nil || one.whose != ours {
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

// ascertainUnreported is for a claim that no pid tells of: its dispatcher died
// before it wrote one, and the run may have that of an earlier attempt.
func (s *sweep) ascertainUnreported(ctx context.Context, one *suspect) error {
	// To make the Job of a claim is safe unseen: the one that may be there has its
	// name. All else wants to see where the Job may be, which only its rendering
	// tells: everywhere.
	one.sure = s.whole[""] || one.run.StateType == "PENDING" && one.whose == ours || s.foreignHasNone(ctx, one)
	started := one.run.StateType == "RUNNING" || one.run.StateType == "SCHEDULED"
	if !s.whole[""] || !started || one.whose != ours || one.job != nil || one.other {
		return nil
	}
	// A run that has started had a Job when the runs were listed, before the Jobs.
	jobs, err := s.Kube.Jobs(ctx, "", labelRun+"="+one.run.ID)
	if err != nil {
		return err
	}
	one.gone = !slices.ContainsFunc(jobs, func(job kube.JobStatus) bool { return !job.Complete && !job.Failed })
	return nil
}

// foreignHasNone looks where the Job of somebody else's old claim would be, which
// is the namespace that its rendering names.
func (s *sweep) foreignHasNone(ctx context.Context, one *suspect) bool {
	if one.run.StateType != "PENDING" || one.whose == ours || s.ForeignOrphanGrace == 0 || one.age(s.Now()) <= s.ForeignOrphanGrace {
		return false
	}
	if err := s.readOwners(ctx, []prefect.FlowRun{*one.run}); err != nil {
		return false
	}
	job, err := s.flightOf(*one).render(ctx)
	if err != nil {
		return false
	}
	jobs, err := s.Kube.Jobs(ctx, job.Namespace, labelRun+"="+one.run.ID)
	return err == nil && len(jobs) == 0
}

// namesClaim tells whether a Job's name is that of a claim.
func (s *sweep) namesClaim(name string, claim *prefect.State) bool {
	return claim != nil && strings.HasSuffix(name, jobName("", claim.Details.TransitionID))
}

func (s *sweep) jobsOf(run string) []*kube.JobStatus {
	var found []*kube.JobStatus
	for _, i := range s.byRun[strings.ToLower(run)] {
		found = append(found, &s.jobs[i])
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
