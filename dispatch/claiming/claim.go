package claiming

import (
	"context"
	"encoding/json"
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/dispatch/submit"
	"slipway/dispatch/workpool"
	"slipway/prefect"
)

// lastAttempt is the time for an attempt begun just before the deadline, and
// for writing down what came of it.
const lastAttempt = 30 * time.Second

// own claims the run and then does what only its owner may. answered is called when
// the claim has its answer.
func (p *pass) own(ctx context.Context, ready *prepared, answered func()) submit.Result {
	// From here on the caller's going away changes nothing: a claim that is
	// left alone waits for the next sweep.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.session.Options.Deadline+lastAttempt)
	defer cancel()
	if lost := p.claim(ctx, ready); lost != nil {
		return *lost
	}
	answered()
	if ready.fault != nil {
		return submit.Crash(ctx, p.session, &ready.run, ready.claim, "Slipway cannot render the Job of this flow run: "+ready.fault.Error())
	}
	return submit.Submit(ctx, submit.Submission{Session: p.session, Run: &ready.run, Claim: ready.claim, Job: ready.job, Place: ready.place})
}

// claim makes this dispatcher the owner of the run; a result if it is not. The proof
// is the transition id of the run's state, not the word of the answer: a repeat after
// a lost answer is REJECTed and still ours.
func (p *pass) claim(ctx context.Context, ready *prepared) *submit.Result {
	ready.claim.Began = p.session.Options.Now()
	message := ""
	if ready.job != nil {
		message = claim.Message(ready.place)
	}
	// The name is exactly Pending: the server accepts any other over somebody
	// else's claim (3.8.8).
	state := workpool.StateBody("PENDING", "Pending", message, map[string]any{"transition_id": ready.claim.ID})
	verdict, err := p.propose(ctx, ready, state)
	if err != nil {
		var failed *submit.Result
		if verdict, failed = p.afterLostAnswer(ctx, ready, err); failed != nil {
			return failed
		}
	}
	p.count(nil)
	if !ready.claim.HeldBy(verdict.State) {
		return p.lost(ready, verdict)
	}
	ready.claim.StateID = verdict.State.ID
	// The server copies the time into the claim from the state SCHEDULED
	// only. From COMPLETED, FAILED or CRASHED it accepts a claim as well: the
	// page was stale, and the run must not run again.
	if at := verdict.State.Details.ScheduledTime; at == nil || !at.Equal(ready.claim.Due) {
		r := submit.PutBack(ctx, p.session, &ready.run, ready.claim)
		return &r
	}
	return nil
}

// propose repeats the claim only as long as its owner has time: later a sweep may have
// made the Job, and a run that has ended since would be claimed again.
func (p *pass) propose(ctx context.Context, ready *prepared, state json.RawMessage) (*prefect.Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, p.session.Options.Deadline)
	defer cancel()
	return p.session.Prefect.SetState(ctx, ready.run.ID, prefect.Proposal{State: state})
}

// afterLostAnswer reads what a claim without an answer has done.
func (p *pass) afterLostAnswer(ctx context.Context, ready *prepared, err error) (*prefect.Verdict, *submit.Result) {
	switch {
	case prefect.IsNotFound(err):
		return nil, result(report.Skipped, "the run was deleted: %s", p.session.Text(err))
	case prefect.IsInvalid(err):
		return nil, p.unanswered(ctx, ready, err)
	case !prefect.MayHaveHappened(err):
		r := result(report.Failed, "not claimed: %s", p.session.Text(err))
		r.Blocked = p.end(ctx, err)
		return nil, r
	}
	run, readErr := p.session.Prefect.FlowRun(ctx, ready.run.ID)
	switch {
	case prefect.IsNotFound(readErr):
		return nil, result(report.Skipped, "the run was deleted")
	case readErr != nil:
		r := result(report.Unknown, "whether it is claimed could not be learned: %s; a later sweep settles it", p.session.Text(err))
		r.Blocked = p.end(ctx, err)
		return nil, r
	case run.StateType == "SCHEDULED":
		return nil, p.unanswered(ctx, ready, err)
	}
	return &prefect.Verdict{Status: "UNKNOWN", Reason: p.session.Text(err), State: run.State}, nil
}

// maxFailures is how many claims in a row that the server does not answer end the
// pass. One run that it fails on keeps no other from being claimed.
const maxFailures = 3

// unanswered is a claim that the server fails on. The run's log says so, once.
func (p *pass) unanswered(ctx context.Context, ready *prepared, err error) *submit.Result {
	const prefix = "Slipway could not claim this flow run: "
	message := prefix + p.session.Text(err)
	if told, readErr := p.session.Tells(ctx, ready.run.ID, prefix, message, workpool.SameText); readErr == nil && !told {
		p.session.Tell(ctx, ready.run.ID, workpool.LevelWarning, message)
	}
	r := result(report.Failed, "the claim had no effect so far: %s", p.session.Text(err))
	if p.count(err) >= maxFailures {
		r.Blocked = p.end(ctx, err)
	}
	return r
}

// count counts failed claims in a row; nil begins anew.
func (p *pass) count(err error) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures++
	if err == nil {
		p.failures = 0
	}
	return p.failures
}

func (p *pass) end(ctx context.Context, err error) *submit.Block {
	return &submit.Block{Reason: "not claimed: the Prefect server did not answer an earlier claim", Ends: workpool.PrefectError(ctx, "claim flow runs", err)}
}

// lost explains a claim that was not granted.
func (p *pass) lost(ready *prepared, v *prefect.Verdict) *submit.Result {
	now, name := "", ""
	if v.State != nil {
		now, name = v.State.Type, v.State.Name
	}
	switch {
	case now == "PENDING" || now == "RUNNING" || now == "COMPLETED" || now == "FAILED" || now == "CRASHED":
		return result(report.Duplicate, "somebody else has it: the run is %s", now)
	case name == "AwaitingConcurrencySlot":
		p.refuseSlots(ready)
		return noSlot(v.Reason)
	}
	return result(report.Skipped, "the server answered %s: %s", v.Status, v.Reason)
}

func noSlot(reason string) *submit.Result {
	return result(report.Skipped, "no slot is free: %s", reason)
}

// refuseSlots ends the turn of a deployment in this pass.
func (p *pass) refuseSlots(ready *prepared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noSlot[ready.run.DeploymentID] = true
}

func (p *pass) slotRefused(ready *prepared) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.noSlot[ready.run.DeploymentID]
}
