package contract

import (
	"time"

	"github.com/google/uuid"
)

// proposal is a state with a transition id of its own.
func proposal(kind, name, id string) doc {
	return doc{"type": kind, "name": name, "message": "why", "state_details": doc{"transition_id": id}}
}

// proposed are the states, beside claims, that a dispatcher proposes.
var proposed = [][2]string{{"SCHEDULED", "AwaitingRetry"}, {"CRASHED", "Crashed"}, {"CANCELLED", "Cancelled"}}

func repeatedProposals(t *T) {
	w := t.world(nil)
	for _, p := range proposed {
		run, id := w.run(-time.Minute), uuid.NewString()
		w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
		w.propose(201, "ACCEPT", run, proposal(p[0], p[1], id))
		answer := w.propose(200, "REJECT", run, proposal(p[0], p[1], id))
		t.equal("reason", at(answer, "details", "reason"), "This run has already made this state transition.")
		t.equal("state", at(answer, "state", "type"), p[0])
		t.equal("id", at(answer, "state", "state_details", "transition_id"), id)
		states, _ := t.expect(200, "GET", "/flow_run_states/?flow_run_id="+run, nil).([]any)
		t.equal("number of states", len(states), 3)
	}
	for kind, status := range map[string]string{"CRASHED": "ABORT", "CANCELLED": "ACCEPT"} {
		run := w.run(-time.Minute)
		w.propose(201, "ACCEPT", run, proposal(kind, "", uuid.NewString()))
		_, answer := t.call("POST", "/flow_runs/"+run+"/set_state", doc{"state": proposal(kind, "", uuid.NewString())})
		t.equal("answer to another "+kind, at(answer, "status"), status)
	}
}

// lateRepeats is why a proposal that is not a claim is made once, and why the run is
// read before it is made again.
func lateRepeats(t *T) {
	w := t.world(nil)
	for _, p := range proposed {
		run, id := w.run(-time.Minute), uuid.NewString()
		w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
		w.propose(201, "ACCEPT", run, proposal(p[0], p[1], id))
		if p[0] != "SCHEDULED" {
			w.propose(201, "ACCEPT", run, doc{"type": "SCHEDULED"}) // retried in the UI
		}
		w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
		w.propose(201, "ACCEPT", run, proposal(p[0], p[1], id))
	}
	for kind, want := range map[string]string{"SCHEDULED": "ACCEPT", "CRASHED": "ABORT", "CANCELLED": "ACCEPT"} {
		run, id := w.run(-time.Minute), uuid.NewString()
		w.propose(201, "ACCEPT", run, proposal(kind, "", id))
		w.propose(201, "ACCEPT", run, doc{"type": "SCHEDULED"})
		w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
		w.propose(201, "ACCEPT", run, doc{"type": "COMPLETED"})
		_, answer := t.call("POST", "/flow_runs/"+run+"/set_state", doc{"state": proposal(kind, "", id)})
		t.equal("answer to "+kind+" on COMPLETED", at(answer, "status"), want)
	}
}

// messages: what a claim says is still in the history when the run has moved on.
func messages(t *T) {
	w := t.world(nil)
	run, claimed := w.run(-time.Minute), claim(uuid.NewString())
	claimed["message"] = "claimed for a cluster"
	answer := w.propose(201, "ACCEPT", run, claimed)
	t.equal("answered message", at(answer, "state", "message"), "claimed for a cluster")
	w.propose(201, "ACCEPT", run, doc{"type": "RUNNING"})
	w.propose(201, "ACCEPT", run, doc{"type": "CRASHED", "message": "lost"})
	states, _ := t.expect(200, "GET", "/flow_run_states/?flow_run_id="+run, nil).([]any)
	t.equal("number of states", len(states), 4)
	t.equal("message of the claim", at(states[1], "message"), "claimed for a cluster")
	t.equal("message of the crash", at(states[3], "message"), "lost")
}
