package prefecttest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"slipway/prefect"
)

// transition is a proposed state on its way through the rules.
type transition struct {
	run, from, to Doc
	force         bool

	status   string // "": go on
	details  Doc
	rejected Doc // the state that a REJECT puts in the place of the proposed one
}

func (t *transition) abort(reason string) {
	t.status, t.details = "ABORT", Doc{"type": "abort_details", "reason": reason}
}

func (t *transition) reject(reason string, instead Doc) {
	t.status, t.details, t.rejected = "REJECT", Doc{"type": "reject_details", "reason": reason}, instead
}

// rule is a rule of orchestration. The first one that sets a status decides.
type rule struct {
	name   string
	forced bool // holds for a forced proposal too
	apply  func(s *Server, t *transition)
}

// orchestration is the order of the server's CoreFlowPolicy (3.8.8).
var orchestration = []rule{
	{"duplicate transition", false, duplicate},
	{"terminal stays terminal", false, terminal},
	{"cancelling only to cancelled", false, cancelling},
	{"nothing to cancel", true, nothingToCancel},
	{"no second claim", false, secondClaim},
	{"paused does not start", false, paused},
	{"deployment limit", false, deploymentLimit},
	{"only scheduled is late", false, onlyScheduledIsLate},
	{"retry of a failed flow", false, retryFailed},
	{"copy scheduled time", false, copyScheduledTime},
	{"wait for scheduled time", false, waitForScheduledTime},
}

// checks are the names of the rules outside orchestration.
var checks = []string{
	"API version", "reserved pool name", "unique pool name", "whole heartbeat interval", "heartbeat makes the pool ready",
	"poll limit", "unknown queue", "pool pause", "pool limit", "queue priority", "queue pause", "queue limit", "scheduled_before",
	"scheduled_after", "start time order", "unknown keys of a run", "unknown keys of a state", "whole events",
	"filters with or", "one event of an id", "retries of an engine are not polled", "list limit", "list offset", "lists in order",
	"runs due after", "runs due before", "messages are kept",
}

// Rules names every rule, for Without.
func Rules() []string {
	all := slices.Clone(checks)
	for _, r := range orchestration {
		all = append(all, r.name)
	}
	return all
}

// has tells whether a rule holds.
func (s *Server) has(name string) bool { return !slices.Contains(s.without, name) }

func details(state Doc) Doc {
	d, _ := state["state_details"].(Doc)
	return d
}

func (s *Server) setState(r *http.Request, body Doc) (int, any, *fault) {
	run, f := s.run(r, fmt.Sprintf("Flow run with id %s not found", r.PathValue("id")))
	if f != nil {
		if words := f.body["detail"]; words != "Not Found" {
			f.body = Doc{"exception_message": words}
		}
		return 0, nil, f
	}
	proposed, ok := body["state"].(Doc)
	if !ok || names[fmt.Sprint(proposed["type"])] == "" {
		return 0, nil, invalid("missing", "Field required", "body", "state", "type")
	}
	for key := range proposed {
		if s.has("unknown keys of a state") && !slices.Contains([]string{"type", "name", "message", "data", "state_details"}, key) {
			return 0, nil, invalid("extra_forbidden", "Extra inputs are not permitted", "body", "state", key)
		}
	}
	status, out := s.propose(run, proposed, body["force"] == true)
	return status, out, nil
}

// propose takes a state through the rules: 201 if the run has a new state after
// it, 200 if not.
func (s *Server) propose(run, proposed Doc, force bool) (int, Doc) {
	from, _ := run["state"].(Doc)
	t := &transition{run: run, from: from, to: s.newState(run["id"], proposed), force: force}
	for _, r := range orchestration {
		if s.has(r.name) && (!force || r.forced) && t.status == "" {
			r.apply(s, t)
		}
	}
	code := http.StatusOK
	switch {
	case t.status == "":
		t.status, t.details, code = "ACCEPT", Doc{"type": "accept_details"}, http.StatusCreated
		s.enter(run, t.to)
	case t.rejected != nil:
		code = http.StatusCreated
		s.enter(run, t.rejected)
	}
	return code, Doc{"state": run["state"], "status": t.status, "details": t.details}
}

func duplicate(_ *Server, t *transition) {
	id := details(t.to)["transition_id"]
	if id != nil && id == details(t.from)["transition_id"] {
		t.reject("This run has already made this state transition.", nil)
	}
}

func terminal(_ *Server, t *transition) {
	final := slices.Contains([]any{"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}, t.from["type"])
	if final && slices.Contains([]any{"CRASHED", "CANCELLING"}, t.to["type"]) {
		t.abort(fmt.Sprintf("Run is already in terminal state %v.", t.from["type"]))
	}
}

func cancelling(_ *Server, t *transition) {
	if t.from["type"] == "CANCELLING" && t.to["type"] != "CANCELLED" && t.to["type"] != "CANCELLING" {
		t.reject("Cannot transition flows that are cancelling to a state other than Cancelled.", nil)
	}
}

func nothingToCancel(s *Server, t *transition) {
	if t.from["type"] == "SCHEDULED" && t.to["type"] == "CANCELLING" && t.run["infrastructure_pid"] == nil {
		words := "Scheduled flow run has no infrastructure to terminate."
		t.reject(words, s.newState(t.run["id"], Doc{"type": "CANCELLED", "message": words}))
	}
}

// secondClaim guards the name Pending only: a sub-state of another name is let
// over anybody's claim.
func secondClaim(_ *Server, t *transition) {
	if t.to["type"] != "PENDING" || !slices.Contains([]any{"PENDING", "RUNNING", "CANCELLED"}, t.from["type"]) {
		return
	}
	if t.from["type"] == "PENDING" && t.to["name"] != "Pending" && t.to["name"] != t.from["name"] {
		return
	}
	t.abort(fmt.Sprintf("This run is in a %v state and cannot transition to a PENDING state.", t.from["type"]))
}

func paused(_ *Server, t *transition) {
	if t.from["type"] == "PAUSED" && t.to["type"] == "PENDING" {
		t.reject("This run cannot transition to the StateType.PENDING state from the StateType.PAUSED state.", nil)
	}
}

// deploymentLimit refuses a claim while all slots are held. A run holds its slot
// from PENDING until it is scheduled again or final.
func deploymentLimit(s *Server, t *transition) {
	d := find(s.deploys, "id", t.run["deployment_id"])
	holds := []any{"PENDING", "RUNNING", "CANCELLING"}
	if d == nil || d["concurrency_limit"] == nil || t.to["type"] != "PENDING" || slices.Contains(holds, t.from["type"]) {
		return
	}
	held := 0
	for _, run := range s.runs {
		if run["deployment_id"] == d["id"] && s.slots[run["id"].(string)] {
			held++
		}
	}
	if held < int(number(d["concurrency_limit"])) {
		s.slots[t.run["id"].(string)] = true
		return
	}
	instead := Doc{"type": "SCHEDULED", "name": "AwaitingConcurrencySlot", "state_details": Doc{"scheduled_time": prefect.Timestamp(s.now().Add(30 * time.Second))}}
	if options, _ := d["concurrency_options"].(Doc); options["collision_strategy"] == "CANCEL_NEW" {
		instead = Doc{"type": "CANCELLED", "message": "Deployment concurrency limit reached."}
	}
	t.reject("Deployment concurrency limit reached.", s.newState(t.run["id"], instead))
}

func onlyScheduledIsLate(_ *Server, t *transition) {
	if t.to["name"] == "Late" && t.from["type"] != "SCHEDULED" {
		t.reject("Only scheduled flows can be marked late.", nil)
	}
}

// copyScheduledTime copies from SCHEDULED, and along the sub-states of a claim.
func copyScheduledTime(_ *Server, t *transition) {
	if t.to["type"] == "PENDING" && (t.from["type"] == "SCHEDULED" || t.from["type"] == "PENDING") {
		details(t.to)["scheduled_time"] = details(t.from)["scheduled_time"]
	}
}

func waitForScheduledTime(s *Server, t *transition) {
	if t.to["type"] != "RUNNING" || t.from["type"] != "SCHEDULED" && t.from["type"] != "PENDING" {
		return
	}
	text, _ := details(t.from)["scheduled_time"].(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !at.After(s.now()) {
		return
	}
	delay := float64(int(at.Sub(s.now()).Seconds() + 0.5))
	t.status, t.details = "WAIT", Doc{"type": "wait_details", "delay_seconds": delay, "reason": "Scheduled time is in the future"}
}

// retryFailed lets the engine try again in its own process: no poll returns the run.
func retryFailed(s *Server, t *transition) {
	policy, _ := t.run["empirical_policy"].(Doc)
	if t.to["type"] != "FAILED" || t.from["type"] != "RUNNING" || policy["retries"] == nil || number(t.run["run_count"]) > number(policy["retries"]) {
		return
	}
	t.run["empirical_policy"] = over(over(Doc{}, policy), Doc{"retry_type": "in_process"})
	at := s.now().Add(time.Duration(number(policy["retry_delay"])) * time.Second)
	t.reject("Retrying", s.newState(t.run["id"], Doc{"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": Doc{"scheduled_time": prefect.Timestamp(at)}}))
}
