package dispatch

import (
	"context"
	"errors"
	"strings"

	"slipway/prefect"
	"slipway/render"
)

// mend decides, asks the servers once more, and applies the remedy.
func (s *sweep) mend(ctx context.Context, one suspect, row SweepRow) {
	row.Remedy, row.Reason = one.remedy(s.Now(), s.graces())
	row.Reason = s.redact(row.Reason)
	if one.job != nil {
		row.Job = one.job.Namespace + "/" + one.job.Name
	}
	if row.Remedy.mends() && !s.dry && !s.unchanged(ctx, row.ID, one.run) {
		// Its state is another by now, or it cannot be read: then nothing is certain.
		row.Remedy, row.Reason = LeaveAlone, row.Reason+"; and it has moved on meanwhile"
	}
	if row.Remedy.mends() && !s.dry {
		row.Done, row.Outcome = s.apply(ctx, row.Remedy, one, row.Reason)
		row.Outcome = s.redact(row.Outcome)
	}
	if row.State == "CANCELLING" && one.job != nil && (one.job.Deleting || row.Done) {
		s.report.Ending = true
	}
	s.add(row)
}

func (s *sweep) add(row SweepRow) {
	s.report.Looked++
	switch {
	case row.Done:
		s.report.Mended++
	case row.Remedy.mends() && !s.dry:
		s.report.Failed++
	}
	s.report.Rows = append(s.report.Rows, row)
}

func (s *sweep) graces() Graces {
	return Graces{Orphan: s.OrphanGrace, Foreign: s.ForeignOrphanGrace, Settle: s.SettleGrace, Claim: s.Deadline, Stuck: s.StartLimits}
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
		return s.crashed(ctx, f, one, why)
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

// crashed ends a run, and tells what is known only if the server took that.
func (s *sweep) crashed(ctx context.Context, f *flight, one suspect, why string) (bool, string) {
	found := s.diagnose(ctx, one.job)
	message := "Slipway: " + why + found.words
	done, outcome := s.proposed(ctx, f, state("CRASHED", "Crashed", f.redact(message), nil))
	if done {
		for _, line := range append([]string{message}, found.lines...) {
			f.tell(levelError, line)
		}
		s.noteEvents(ctx, found.pods)
	}
	return done, outcome
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
		f.claim = claim{id: one.claim.Details.TransitionID, at: s.Dispatcher.Now()}
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
	case errors.As(err, &fault):
		f.crash(ctx, "Slipway cannot render the Job of this flow run: "+fault.Error())
	case err != nil:
		return false, err.Error()
	default:
		f.job, f.name = job, jobName(job.NameBase, f.claim.id)
		f.submit(ctx)
	}
	return f.line.Outcome == Submitted || f.line.Outcome == Refused, strings.TrimSpace(string(f.line.Outcome) + " " + f.line.Reason)
}
