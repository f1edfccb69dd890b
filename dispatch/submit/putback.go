package submit

import (
	"context"
	"fmt"

	"slipway/dispatch/report"
	"slipway/dispatch/workpool"
	"slipway/prefect"
)

// PutBack undoes a claim on a run that was not SCHEDULED any more, or not for the
// time that the poll showed, by proposing the state that the claim replaced. Its
// outcome is Skipped if the run is no more under the claim afterwards. Of the submission
// it needs Session, Run, Claim and Repair.
func PutBack(ctx context.Context, s Submission) Result {
	session, run, held := s.Session, s.Run, s.Claim
	ctx, cancel := s.undoing(ctx)
	defer cancel()
	former, err := formerState(ctx, session, run)
	if err != nil {
		return Resultf(report.Unknown, "the poll was out of date, and the run's former state could not be read: %s; the run stays PENDING and gets no Job", session.Text(err))
	}
	done, err := session.Propose(ctx, workpool.Change{RunID: run.ID, Former: former.Raw, Still: func(now *prefect.FlowRun) bool { return held.HeldBy(now.State) }})
	switch {
	case err != nil:
		return Resultf(report.Unknown, "the poll was out of date, and the run could not be put back to %s: %s; the run stays PENDING and gets no Job", former.Type, session.Text(err))
	case !done.Accepted:
		return Resultf(report.Skipped, "the poll was out of date; putting the run back to %s: %s", former.Type, done.Answer)
	}
	return Resultf(report.Skipped, "the poll was out of date: the run was %s, and is so again", former.Type)
}

// formerState is the state that our claim replaced. A state's timestamp is of its
// proposal's arrival, and the engine's COMPLETED may arrive after a claim and be
// committed before it (seen on 3.8.8 under load). So the list is read first: while
// the claim is still the run's state afterwards, as Propose makes sure, all other
// states in the list were committed before it, whatever their timestamps.
func formerState(ctx context.Context, session *workpool.Session, run *prefect.FlowRun) (*prefect.State, error) {
	states, err := session.Prefect.FlowRunStates(ctx, run.ID)
	if err != nil {
		return nil, err
	}
	var former *prefect.State
	for i, s := range states {
		if Claimable(s.Type) && (former == nil || s.Timestamp.After(former.Timestamp)) {
			former = &states[i]
		}
	}
	if former == nil {
		return nil, fmt.Errorf("none of the run's %d states can come before a claim", len(states))
	}
	return former, nil
}

// Claimable tells from which states a server accepts a claim (seen on 3.8.8 and
// 2.20.25).
func Claimable(state string) bool {
	return state == "SCHEDULED" || state == "COMPLETED" || state == "FAILED" || state == "CRASHED"
}
