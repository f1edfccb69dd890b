package dispatch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/prefect"
)

// propose claims the run, and reports whether this dispatcher owns it now. The
// proof is the transition id of the run's state, not the word of the answer: a
// repeat after a lost answer is REJECTed and still ours.
func (f *flight) propose(ctx context.Context) bool {
	f.claim.at = f.Dispatcher.Now()
	verdict, err := f.Prefect.SetState(ctx, f.run.ID, prefect.Proposal{
		// The name is exactly Pending: the server accepts any other over
		// somebody else's claim (3.8.8).
		State: state("PENDING", "Pending", "", map[string]any{"transition_id": f.claim.id}),
	})
	if err != nil {
		verdict = f.afterLostAnswer(ctx, err)
		if verdict == nil {
			return false
		}
	}
	if !f.holds(verdict.State) {
		f.lost(verdict)
		return false
	}
	// The server copies the time into the claim from the state SCHEDULED
	// only. From COMPLETED, FAILED or CRASHED it accepts a claim as well: the
	// page was stale, and the run must not run again.
	at := verdict.State.Details.ScheduledTime
	if at == nil || !at.Equal(f.claim.due) {
		f.putBack(ctx)
		return false
	}
	return true
}

func (f *flight) holds(s *prefect.State) bool {
	return s != nil && s.Type == "PENDING" && strings.EqualFold(s.Details.TransitionID, f.claim.id)
}

// afterLostAnswer reads what a claim without an answer has done; nil means that
// the flight is over.
func (f *flight) afterLostAnswer(ctx context.Context, err error) *prefect.Verdict {
	if isNotFound(err) {
		f.end(Skipped, "the run was deleted: %s", f.plain(err))
		return nil
	}
	if !mayHaveHappened(err) {
		f.fail(prefectError(ctx, "claim flow run "+f.run.ID, err))
		f.end(Failed, "not claimed: %s", f.plain(err))
		return nil
	}
	run, readErr := f.Prefect.FlowRun(ctx, f.run.ID)
	if readErr == nil {
		return &prefect.Verdict{Status: "UNKNOWN", Reason: f.plain(err), State: run.State}
	}
	f.fail(prefectError(ctx, "claim flow run "+f.run.ID, err))
	f.end(Unknown, "whether it is claimed could not be learned: %s; a later pass settles it", f.plain(err))
	return nil
}

// lost explains a claim that was not granted.
func (f *flight) lost(v *prefect.Verdict) {
	now, name := "", ""
	if v.State != nil {
		now, name = v.State.Type, v.State.Name
	}
	switch {
	case v.Status == "UNKNOWN":
		f.end(Failed, "the claim had no effect so far: %s", v.Reason)
	case now == "PENDING" || now == "RUNNING" || now == "COMPLETED" || now == "FAILED" || now == "CRASHED":
		f.end(Duplicate, "somebody else has it: the run is %s", now)
	case name == "AwaitingConcurrencySlot":
		f.end(Skipped, "no slot is free: %s", v.Reason)
	default:
		f.end(Skipped, "the server answered %s: %s", v.Status, v.Reason)
	}
}

// putBack undoes a claim on a run that was not SCHEDULED any more, or not for
// the time that the poll showed, by proposing the state that the claim replaced.
func (f *flight) putBack(ctx context.Context) {
	former, err := f.formerState(ctx)
	if err != nil {
		f.end(Unknown, "the poll was out of date, and the run's former state could not be read: %s; the run stays PENDING and gets no Job", f.plain(err))
		return
	}
	if former == nil {
		f.end(Skipped, "the poll was out of date, and the run has moved on meanwhile")
		return
	}
	verdict, err := f.Prefect.SetState(ctx, f.run.ID, prefect.Proposal{State: former.proposal()})
	switch {
	case err != nil:
		f.end(Unknown, "the poll was out of date, and the run could not be put back to %s: %s; the run stays PENDING and gets no Job", former.Type, f.plain(err))
	case verdict.Status != "ACCEPT":
		f.end(Skipped, "the poll was out of date; putting the run back to %s was answered %s: %s", former.Type, verdict.Status, verdict.Reason)
	default:
		f.end(Skipped, "the poll was out of date: the run was %s, and is so again", former.Type)
	}
}

// formerState is the state that our claim replaced; nil when the run has moved on
// from our claim, and is no more ours to put back. A state's timestamp is of its
// proposal's arrival, and the engine's COMPLETED may arrive after a claim and be
// committed before it (seen on 3.8.8 under load). So the list is read first: while
// the claim is still the run's state afterwards, all other states in the list
// were committed before it, whatever their timestamps.
func (f *flight) formerState(ctx context.Context) (*formerState, error) {
	states, err := f.Prefect.FlowRunStates(ctx, f.run.ID)
	if err != nil {
		return nil, err
	}
	run, err := f.Prefect.FlowRun(ctx, f.run.ID)
	if err != nil {
		return nil, err
	}
	if !f.holds(run.State) {
		return nil, nil
	}
	var former *formerState
	for i, s := range states {
		if claimable(s.Type) && (former == nil || s.Timestamp.After(former.Timestamp)) {
			former = (*formerState)(&states[i])
		}
	}
	if former == nil {
		return nil, fmt.Errorf("none of the run's %d states can come before a claim", len(states))
	}
	return former, nil
}

// claimable tells from which states a server accepts a claim.
func claimable(state string) bool {
	return state == "SCHEDULED" || state == "COMPLETED" || state == "FAILED" || state == "CRASHED"
}

// unclaimMargin is the time that giving back takes at most, clocks considered.
const unclaimMargin = 5 * time.Second

// backOff is the least time until a run whose claim was given back is due again.
const backOff = 30 * time.Second

// unclaim gives the run back to the pool. Only the owner does so, and only when
// it is certain that no Job was made: a late one would run beside the next claim's.
func (f *flight) unclaim(ctx context.Context, why string, wait time.Duration) {
	// From its grace on a sweep makes the Job of this claim: then to give it back
	// would be to let two Jobs run.
	if f.OrphanGrace-f.claim.age(f.Dispatcher.Now()) < unclaimMargin {
		f.end(Unknown, "%s; it stays PENDING, and a sweep tries again", why)
		return
	}
	if !f.stillHeld(ctx) {
		return
	}
	again := f.Now().Add(max(wait, backOff))
	if f.claim.due.After(again) {
		again = f.claim.due
	}
	// No transition id: the claim's own would be taken for a repeat.
	f.settle(ctx, Unclaimed, why, state("SCHEDULED", "AwaitingRetry", f.redact(why), map[string]any{
		"scheduled_time": stampOf(again),
	}))
}

// crash ends the run for good, with the reason where its owner looks for it.
func (f *flight) crash(ctx context.Context, why string) {
	if !f.stillHeld(ctx) {
		return
	}
	f.settle(ctx, Refused, why, state("CRASHED", "Crashed", f.redact(why), nil))
	if f.line.Outcome == Refused {
		f.tell(levelError, why)
	}
}

// stillHeld reads the run before anything that would undo another's work.
func (f *flight) stillHeld(ctx context.Context) bool {
	run, err := f.Prefect.FlowRun(ctx, f.run.ID)
	switch {
	case isNotFound(err):
		f.end(Skipped, "the run was deleted")
	case err != nil:
		f.end(Unknown, "the run could not be read: %s; it stays PENDING until a later pass settles it", f.plain(err))
	case !f.holds(run.State):
		f.end(Skipped, "the run has moved on to %s meanwhile", run.StateType)
	default:
		return true
	}
	return false
}

// settle proposes the state that ends a flight, and names the outcome.
func (f *flight) settle(ctx context.Context, outcome Outcome, why string, proposal []byte) {
	verdict, err := f.Prefect.SetState(ctx, f.run.ID, prefect.Proposal{State: proposal})
	switch {
	case err != nil:
		f.end(Unknown, "%s; and that could not be written: %s; the run stays PENDING until a later pass settles it", why, f.plain(err))
	case verdict.Status != "ACCEPT":
		f.end(Skipped, "%s; the server answered %s: %s", why, verdict.Status, verdict.Reason)
	default:
		f.end(outcome, "%s", why)
	}
}

// cancel ends a run that nobody can start. It is not claimed: a server refuses
// a claim whose deployment is gone.
func (f *flight) cancel(ctx context.Context, why string) {
	run, err := f.Prefect.FlowRun(ctx, f.run.ID)
	switch {
	case isNotFound(err):
		f.end(Skipped, "the run was deleted")
	case err != nil:
		f.end(Failed, "read the run: %s", f.plain(err))
	case run.StateType != "SCHEDULED":
		f.end(Skipped, "the run has moved on to %s meanwhile", run.StateType)
	default:
		f.settle(ctx, Refused, why, state("CANCELLED", "Cancelled", why, nil))
	}
}

// stampOf spells a time for the Prefect API.
func stampOf(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
