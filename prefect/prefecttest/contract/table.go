package contract

import (
	"time"

	"github.com/google/uuid"

	"slipway/prefect"
)

// Table is every rule.
var Table = []Row{
	{"a claim is accepted and its id stored", "1", claimStored},
	{"a claim may go unnamed", "1", unnamedClaim},
	{"the due time is copied from SCHEDULED only", "1", timeCopied},
	{"a repeat of a claim is a REJECT with the same id", "2", repeated},
	{"another claim is an ABORT with the winner's id", "2", secondClaim},
	{"a forced claim steals and takes no slot", "2", forcedClaim},
	{"of 32 claims at once one is accepted", "2", concurrentClaims},
	{"an un-claimed run is polled again and claimable", "3", unclaimed},
	{"an un-claim with the claim's id is a REJECT", "3", unclaimSameID},
	{"an un-claim keeps the first due time", "3", unclaimTimes},
	{"an un-claim is not guarded by state", "3", unguardedUnclaim},
	{"a slot is held until scheduled again or over", "3", slotsHeld},
	{"Late is for scheduled runs", "3", late},
	{"a full deployment answers AwaitingConcurrencySlot", "3", slots},
	{"a full deployment that cancels answers CANCELLED", "3", cancelNew},
	{"a repeat of any proposal is a REJECT while the run is in it", "2", repeatedProposals},
	{"a repeat that comes when the run has moved on is not recognised", "2", lateRepeats},
	{"a state keeps its message", "1", messages},
	{"claims by state", "4", claimsByState},
	{"a refused claim says why", "4", reasons},
	{"a second RUNNING is accepted", "4", secondRunning},
	{"CRASHED and RUNNING without a claim", "4", crashes},
	{"CRASHED on COMPLETED is an ABORT", "4", crashedOnCompleted},
	{"a poll has the limit 200", "5", pollLimit},
	{"a poll marks its queues and not the pool", "5", pollMarks},
	{"a poll has bounds, inclusive", "5", pollBounds},
	{"a poll goes by priority, then by start time", "5", pollOrder},
	{"limits bind polls and not claims", "5", limits},
	{"pauses bind polls", "5", pauses},
	{"an early RUNNING is told to wait", "5", early},
	{"a sub-state goes over any claim, once", "6", subState},
	{"sub-states are no proof of ownership", "6", subStates},
	{"other writes", "7", writes},
	{"labels and events", "7", labelsAndEvents},
	{"a heartbeat makes the pool ready", "8", heartbeat},
	{"cancelling", "12", cancelling},
	{"what can be cancelled", "12", cancellable},
	{"error shapes", "15", errorShapes},
	{"unknown keys", "15", unknownKeys},
	{"API versions", "15", apiVersions},
	{"an engine's retry is not polled", "retries", engineRetry},
	{"runs by type or name of state", "filters", runsByState},
	{"deployments of a work pool", "filters", deploymentsByPool},
	{"runs by due time, inclusive", "filters", runsByDueTime},
	{"lists have limits and offsets", "filters", lists},
	{"lists have an order", "filters", ordered},
	{"log lines of a run, the newest first", "filters", newestLines},
	{"an event is kept once", "filters", oneEvent},
}

func claimStored(t *T) {
	w := t.world(nil)
	run, id := w.run(-time.Minute), uuid.NewString()
	answer := w.propose(201, "ACCEPT", run, claim(id))
	t.equal("answered transition id", at(answer, "state", "state_details", "transition_id"), id)
	got := t.expect(200, "GET", "/flow_runs/"+run, nil)
	t.equal("stored transition id", at(got, "state", "state_details", "transition_id"), id)
	t.equal("next_scheduled_start_time", at(got, "next_scheduled_start_time"), nil)
	t.equal("run_count", at(got, "run_count"), 0)
	states, _ := t.expect(200, "GET", "/flow_run_states/?flow_run_id="+run, nil).([]any)
	t.equal("number of states", len(states), 2)
	t.equal("first state", at(states[0], "type"), "SCHEDULED")
}

func timeCopied(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	due := at(t.expect(200, "GET", "/flow_runs/"+run, nil), "next_scheduled_start_time")
	answer := w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
	t.equal("copied time", at(answer, "state", "state_details", "scheduled_time"), due)
	w.propose(201, "ACCEPT", run, doc{"type": "COMPLETED"})
	answer = w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
	t.equal("time of a stale claim", at(answer, "state", "state_details", "scheduled_time"), nil)
	w.propose(201, "ACCEPT", run, doc{"type": "COMPLETED"})
}

func repeated(t *T) {
	w := t.world(nil)
	run, id := w.run(-time.Minute), uuid.NewString()
	w.propose(201, "ACCEPT", run, claim(id))
	answer := w.propose(200, "REJECT", run, claim(id))
	t.equal("reason", at(answer, "details", "reason"), "This run has already made this state transition.")
	t.equal("id", at(answer, "state", "state_details", "transition_id"), id)
}

func secondClaim(t *T) {
	w := t.world(nil)
	run, id := w.run(-time.Minute), uuid.NewString()
	w.propose(201, "ACCEPT", run, claim(id))
	answer := w.propose(200, "ABORT", run, claim(uuid.NewString()))
	t.equal("reason", at(answer, "details", "reason"), "This run is in a PENDING state and cannot transition to a PENDING state.")
	t.equal("id", at(answer, "state", "state_details", "transition_id"), id)
}

func unclaimed(t *T) {
	w := t.world(nil)
	run, id := w.run(-time.Minute), uuid.NewString()
	w.propose(201, "ACCEPT", run, claim(id))
	w.propose(201, "ACCEPT", run, doc{"type": "SCHEDULED", "name": "AwaitingRetry"})
	t.equal("polled runs", len(w.poll(nil)), 1)
	w.propose(201, "ACCEPT", run, claim(id))
}

func unclaimSameID(t *T) {
	w := t.world(nil)
	run, id := w.run(-time.Minute), uuid.NewString()
	w.propose(201, "ACCEPT", run, claim(id))
	w.propose(200, "REJECT", run, doc{"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": doc{"transition_id": id}})
}

func late(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	w.propose(201, "ACCEPT", run, claim(nil))
	answer := w.propose(200, "REJECT", run, doc{"type": "SCHEDULED", "name": "Late"})
	t.equal("reason", at(answer, "details", "reason"), "Only scheduled flows can be marked late.")
}

func slots(t *T) {
	w := t.world(doc{"concurrency_limit": 1})
	first, second := w.run(-time.Minute), w.run(-time.Minute)
	w.propose(201, "ACCEPT", first, claim(uuid.NewString()))
	answer := w.propose(201, "REJECT", second, claim(uuid.NewString()))
	t.equal("state", at(answer, "state", "name"), "AwaitingConcurrencySlot")
	t.equal("reason", at(answer, "details", "reason"), "Deployment concurrency limit reached.")
	w.propose(201, "ACCEPT", first, doc{"type": "SCHEDULED", "name": "AwaitingRetry"})
	w.propose(201, "ACCEPT", second, claim(uuid.NewString()))
}

func cancelNew(t *T) {
	w := t.world(doc{"concurrency_limit": 1, "concurrency_options": doc{"collision_strategy": "CANCEL_NEW"}})
	first, second := w.run(-time.Minute), w.run(-time.Minute)
	w.propose(201, "ACCEPT", first, claim(uuid.NewString()))
	t.equal("state", at(w.propose(201, "REJECT", second, claim(uuid.NewString())), "state", "type"), "CANCELLED")
}

func claimsByState(t *T) {
	w := t.world(nil)
	for _, c := range []struct {
		via, status string
		code        int
	}{
		{"COMPLETED", "ACCEPT", 201},
		{"FAILED", "ACCEPT", 201},
		{"CRASHED", "ACCEPT", 201},
		{"CANCELLED", "ABORT", 200},
		{"RUNNING", "ABORT", 200},
		{"CANCELLING", "REJECT", 200},
	} {
		run := w.run(-time.Minute)
		w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
		w.propose(201, "ACCEPT", run, doc{"type": c.via})
		w.propose(c.code, c.status, run, claim(uuid.NewString()))
	}
	run := w.run(-time.Minute)
	w.propose(201, "ACCEPT", run, doc{"type": "RUNNING"})
	w.propose(201, "ACCEPT", run, doc{"type": "PAUSED", "state_details": doc{"pause_timeout": prefect.Timestamp(time.Now().Add(time.Hour)), "pause_key": "k"}})
	w.propose(200, "REJECT", run, claim(uuid.NewString()))
}

func crashedOnCompleted(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	w.propose(201, "ACCEPT", run, claim(nil))
	w.propose(201, "ACCEPT", run, doc{"type": "COMPLETED"})
	answer := w.propose(200, "ABORT", run, doc{"type": "CRASHED"})
	t.equal("reason", at(answer, "details", "reason"), "Run is already in terminal state COMPLETED.")
	w.propose(201, "ACCEPT", run, doc{"type": "CANCELLED"})
}

func subState(t *T) {
	w := t.world(nil)
	run, id := w.run(-time.Minute), uuid.NewString()
	w.propose(201, "ACCEPT", run, claim(id))
	answer := w.propose(201, "ACCEPT", run, doc{"type": "PENDING", "name": "Submitting"})
	t.equal("transition id after a sub-state", at(answer, "state", "state_details", "transition_id"), nil)
	w.propose(200, "ABORT", run, doc{"type": "PENDING", "name": "Submitting"})
	w.propose(200, "ABORT", run, claim(id))
}

func cancelling(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	answer := w.propose(201, "REJECT", run, doc{"type": "CANCELLING"})
	t.equal("state", at(answer, "state", "type"), "CANCELLED")
	run = w.run(-time.Minute)
	w.propose(201, "ACCEPT", run, claim(nil))
	w.propose(201, "ACCEPT", run, doc{"type": "CANCELLING"})
	w.propose(200, "REJECT", run, doc{"type": "SCHEDULED"})
	w.propose(200, "REJECT", run, doc{"type": "CRASHED"})
	w.propose(201, "ACCEPT", run, doc{"type": "CANCELLED"})
	w.propose(201, "ACCEPT", run, doc{"type": "CANCELLED"})
	run = w.run(-time.Minute)
	w.propose(201, "ACCEPT", run, claim(nil))
	w.propose(201, "ACCEPT", run, doc{"type": "COMPLETED"})
	w.propose(200, "ABORT", run, doc{"type": "CANCELLING"})
}
