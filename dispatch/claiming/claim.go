package claiming

import (
	"context"
	"encoding/json"
	"math/rand/v2"
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
		return submit.Crash(ctx, p.submission(ready), ready.fault)
	}
	return submit.Submit(ctx, p.submission(ready))
}

func (p *pass) submission(ready *prepared) submit.Submission {
	return submit.Submission{Session: p.session, Run: &ready.run, Claim: ready.claim, Job: ready.job, Place: ready.place}
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
	if !ready.claim.HeldBy(verdict.State) {
		return p.lost(ready, verdict)
	}
	ready.claim.StateID = verdict.State.ID
	p.claimed(ready)
	// The server copies the time into the claim from the state SCHEDULED
	// only. From COMPLETED, FAILED or CRASHED it accepts a claim as well: the
	// page was stale, and the run must not run again.
	at := verdict.State.Details.ScheduledTime
	switch {
	case at != nil && at.Equal(ready.claim.Due):
		return nil
	case at != nil && !ready.claim.InTime(p.session.Options):
		return result(report.Unknown, "the run was rescheduled, and its claim took too long to be put back; a later sweep settles it")
	}
	r := submit.PutBack(ctx, p.submission(ready))
	return &r
}

// propose repeats the claim only as long as its owner has time: later a sweep may have
// made the Job, and a run that has ended since would be claimed again.
func (p *pass) propose(ctx context.Context, ready *prepared, state json.RawMessage) (*prefect.Verdict, error) {
	limit := p.session.Options.Deadline
	if grace := p.session.Options.OrphanGrace - submit.UnclaimMargin; grace > 0 {
		limit = min(limit, grace)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return p.session.Prefect.SetState(ctx, ready.run.ID, prefect.Proposal{State: state})
}

// afterLostAnswer reads what a claim without an answer has done. Only if the run
// cannot be read either does the pass end.
func (p *pass) afterLostAnswer(ctx context.Context, ready *prepared, err error) (*prefect.Verdict, *submit.Result) {
	if prefect.IsNotFound(err) {
		return nil, result(report.Skipped, "the run was deleted: %s", p.session.Text(err))
	}
	run, readErr := p.session.Prefect.FlowRun(ctx, ready.run.ID)
	switch {
	case prefect.IsNotFound(readErr):
		return nil, result(report.Skipped, "the run was deleted")
	case readErr != nil && prefect.MayHaveHappened(err):
		return nil, p.end(ctx, err, result(report.Unknown, "whether it is claimed could not be learned: %s; a later sweep settles it", p.session.Text(err)))
	case readErr != nil:
		return nil, p.end(ctx, err, result(report.Failed, "not claimed: %s", p.session.Text(err)))
	case run.StateType == "SCHEDULED":
		return nil, p.unanswered(ctx, ready, err)
	}
	return &prefect.Verdict{Status: "UNKNOWN", Reason: p.session.Text(err), State: run.State}, nil
}

// After maxFailures claims in a row that the server fails on, only one in failedShare of
// that deployment's runs is tried: which ones is left to chance, so that none stays
// behind the others for ever. Other deployments' runs are claimed all the same.
const (
	maxFailures = 3
	failedShare = 4
)

// unanswered is a claim that the server fails on. The run's log says so, once.
func (p *pass) unanswered(ctx context.Context, ready *prepared, err error) *submit.Result {
	const prefix = "Slipway could not claim this flow run: "
	p.session.TellOnce(ctx, ready.run.ID, prefix, prefix+p.session.Text(err))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures[ready.run.DeploymentID]++
	return result(report.Failed, "the claim had no effect so far: %s", p.session.Text(err))
}

// claimed begins the count of a deployment's failures anew.
func (p *pass) claimed(ready *prepared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failures, ready.run.DeploymentID)
}

// end makes a result the last of the pass: the server does not answer.
func (p *pass) end(ctx context.Context, err error, r *submit.Result) *submit.Result {
	r.Blocked = &submit.Block{Reason: "not claimed: the Prefect server did not answer an earlier claim", Ends: workpool.PrefectError(ctx, "claim flow runs", err)}
	return r
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
		p.closeDeployment(ready, "no slot is free: the concurrency limit of its deployment has refused an earlier run of it in this pass")
		return result(report.Skipped, "no slot is free: %s", v.Reason)
	}
	return result(report.Skipped, "the server answered %s: %s", v.Status, v.Reason)
}

// closeDeployment ends the turn of a deployment in this pass.
func (p *pass) closeDeployment(ready *prepared, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed[ready.run.DeploymentID] = reason
}

// closedReason says why a run's deployment has had its turn; "" if it has not.
func (p *pass) closedReason(ready *prepared) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	deployment := ready.run.DeploymentID
	if p.failures[deployment] >= maxFailures && rand.IntN(failedShare) != 0 { //nolint:gosec // no secret depends on it
		return "not claimed: the Prefect server fails on the claims of its deployment's runs"
	}
	return p.closed[deployment]
}
