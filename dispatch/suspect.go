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
	return one, s.ascertain(ctx, one)
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
		case !job.Failed:
			one.other = true
		}
	}
	return nil
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
