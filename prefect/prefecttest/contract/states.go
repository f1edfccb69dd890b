package contract

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"slipway/prefect"
)

func unnamedClaim(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	answer := w.propose(201, "ACCEPT", run, doc{"type": "PENDING"})
	t.equal("name", at(answer, "state", "name"), "Pending")
	t.equal("transition id", at(answer, "state", "state_details", "transition_id"), nil)
	w.propose(200, "ABORT", run, doc{"type": "PENDING"})
}

func forcedClaim(t *T) {
	w := t.world(doc{"concurrency_limit": 1})
	first, second, third := w.run(-time.Minute), w.run(-time.Minute), w.run(-time.Minute)
	for _, id := range []string{uuid.NewString(), uuid.NewString()} {
		answer := t.expect(201, "POST", "/flow_runs/"+first+"/set_state", doc{"state": claim(id), "force": true})
		t.equal("status", at(answer, "status"), "ACCEPT")
		t.equal("id", at(answer, "state", "state_details", "transition_id"), id)
	}
	// It took no slot: the next claim gets the only one.
	w.propose(201, "ACCEPT", second, claim(uuid.NewString()))
	w.propose(201, "REJECT", third, claim(uuid.NewString()))
}

func concurrentClaims(t *T) {
	w := t.world(nil)
	for _, same := range []bool{false, true} {
		run, id := w.run(-time.Minute), uuid.NewString()
		counts := map[any]int{}
		var mu sync.Mutex
		var all sync.WaitGroup
		var trouble any
		for range 32 {
			mine := id
			if !same {
				mine = uuid.NewString()
			}
			all.Go(func() {
				defer func() {
					if r := recover(); r != nil {
						mu.Lock()
						trouble = r
						mu.Unlock()
					}
				}()
				_, answer := t.call("POST", "/flow_runs/"+run+"/set_state", doc{"state": claim(mine)})
				mu.Lock()
				defer mu.Unlock()
				counts[at(answer, "status")]++
			})
		}
		all.Wait()
		if trouble != nil {
			panic(trouble)
		}
		want := map[any]int{"ACCEPT": 1, "ABORT": 31}
		if same {
			want = map[any]int{"ACCEPT": 1, "REJECT": 31}
		}
		t.equal("answers", counts, want)
	}
}

func unclaimTimes(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	due := at(t.expect(200, "GET", "/flow_runs/"+run, nil), "expected_start_time")
	w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
	later := prefect.Timestamp(time.Now().Add(time.Hour))
	w.propose(201, "ACCEPT", run, doc{"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": doc{"scheduled_time": later}})
	got := t.expect(200, "GET", "/flow_runs/"+run, nil)
	t.equal("run_count", at(got, "run_count"), 0)
	t.equal("expected_start_time", at(got, "expected_start_time"), due)
	t.equal("next_scheduled_start_time", at(got, "next_scheduled_start_time"), later)
	w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
	answer := w.propose(201, "ACCEPT", run, doc{"type": "SCHEDULED", "name": "Scheduled"})
	now, err := time.Parse(time.RFC3339Nano, fmt.Sprint(at(answer, "state", "state_details", "scheduled_time")))
	if err != nil || time.Since(now).Abs() > time.Minute {
		t.failf("the scheduled time of an un-claim without one is %v, not now", now)
	}
}

// unguardedUnclaim is why a run is read before it is given back.
func unguardedUnclaim(t *T) {
	w := t.world(nil)
	for _, via := range []string{"RUNNING", "COMPLETED"} {
		run := w.run(-time.Minute)
		w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
		w.propose(201, "ACCEPT", run, doc{"type": via})
		w.propose(201, "ACCEPT", run, doc{"type": "SCHEDULED", "name": "AwaitingRetry"})
	}
}

func slotsHeld(t *T) {
	w := t.world(doc{"concurrency_limit": 1})
	first, second := w.run(-time.Minute), w.run(-time.Minute)
	w.propose(201, "ACCEPT", first, claim(uuid.NewString()))
	full := func(when string) {
		answer := w.propose(201, "REJECT", second, claim(uuid.NewString()))
		at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(at(answer, "state", "state_details", "scheduled_time")))
		if wait := time.Until(at); err != nil || wait < 20*time.Second || wait > 31*time.Second {
			t.failf("%s: the run is to wait %s for a slot, want 30s", when, wait)
		}
	}
	full("claimed")
	w.propose(201, "ACCEPT", first, doc{"type": "PENDING", "name": "Submitting"})
	full("in a sub-state")
	w.propose(201, "ACCEPT", first, doc{"type": "CANCELLING"})
	full("cancelling")
	w.propose(201, "ACCEPT", first, doc{"type": "CANCELLED"})
	// Free again, and claimable before the 30 s are over.
	w.propose(201, "ACCEPT", second, claim(uuid.NewString()))
	third := w.run(-time.Minute)
	w.propose(201, "REJECT", third, claim(uuid.NewString()))
	w.propose(201, "ACCEPT", second, doc{"type": "CRASHED"})
	w.propose(201, "ACCEPT", third, claim(uuid.NewString()))
}

func reasons(t *T) {
	w := t.world(nil)
	for via, reason := range map[string]string{
		"CANCELLED":  "This run is in a CANCELLED state and cannot transition to a PENDING state.",
		"RUNNING":    "This run is in a RUNNING state and cannot transition to a PENDING state.",
		"CANCELLING": "Cannot transition flows that are cancelling to a state other than Cancelled.",
	} {
		run := w.run(-time.Minute)
		w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
		w.propose(201, "ACCEPT", run, doc{"type": via})
		_, answer := t.call("POST", "/flow_runs/"+run+"/set_state", doc{"state": claim(uuid.NewString())})
		t.equal("reason", at(answer, "details", "reason"), reason)
		t.equal("state", at(answer, "state", "type"), via)
	}
}

// secondRunning: the server does not stop a second pod.
func secondRunning(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
	for range 2 {
		w.propose(201, "ACCEPT", run, doc{"type": "RUNNING", "state_details": doc{"transition_id": uuid.NewString()}})
	}
	t.equal("run_count", at(t.expect(200, "GET", "/flow_runs/"+run, nil), "run_count"), 2)
}

func crashes(t *T) {
	w := t.world(nil)
	w.propose(201, "ACCEPT", w.run(-time.Minute), doc{"type": "CRASHED"})
	run := w.run(-time.Minute)
	w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
	w.propose(201, "ACCEPT", run, doc{"type": "CRASHED"})
	w.propose(201, "ACCEPT", w.run(-time.Minute), doc{"type": "RUNNING"})
}

func subStates(t *T) {
	w := t.world(nil)
	run, id, other := w.run(-time.Minute), uuid.NewString(), uuid.NewString()
	w.propose(201, "ACCEPT", run, claim(id))
	w.propose(200, "REJECT", run, doc{"type": "PENDING", "name": "Submitting", "state_details": doc{"transition_id": id}})
	due := at(t.expect(200, "GET", "/flow_runs/"+run, nil), "state", "state_details", "scheduled_time")
	// Somebody else's sub-state goes over the claim, with an id of its own.
	answer := w.propose(201, "ACCEPT", run, doc{"type": "PENDING", "name": "Submitting", "state_details": doc{"transition_id": other}})
	t.equal("transition id", at(answer, "state", "state_details", "transition_id"), other)
	t.equal("due time", at(answer, "state", "state_details", "scheduled_time"), due)
	w.propose(201, "ACCEPT", run, doc{"type": "PENDING", "name": "InfrastructurePending"})
	w.propose(201, "ACCEPT", run, doc{"type": "PENDING", "name": "Submitting"})
	w.propose(201, "ACCEPT", run, doc{"type": "PENDING", "name": "slipway-abc"})
	w.propose(201, "ACCEPT", run, doc{"type": "PENDING", "name": "slipway-def"})
}

func cancellable(t *T) {
	w := t.world(nil)
	scheduled := w.run(-time.Minute)
	t.expect(204, "PATCH", "/flow_runs/"+scheduled, doc{"infrastructure_pid": "ns:job"})
	running := w.run(-time.Minute)
	w.propose(201, "ACCEPT", running, doc{"type": "RUNNING"})
	for _, run := range []string{scheduled, running} {
		w.propose(201, "ACCEPT", run, doc{"type": "CANCELLING"})
	}
	pending := w.run(-time.Minute)
	w.propose(201, "ACCEPT", pending, claim(nil))
	answer := t.expect(201, "POST", "/flow_runs/"+pending+"/set_state", doc{"state": doc{"type": "CANCELLING"}, "force": true})
	t.equal("status", at(answer, "status"), "ACCEPT")
}
