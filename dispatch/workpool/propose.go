package workpool

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"slipway/prefect"
)

// Change is a state that is proposed for a flow run, as long as the run is what it
// was when that was decided. It is for all states but a claim's.
type Change struct {
	RunID   string
	Type    string // CRASHED, SCHEDULED, CANCELLED, ...
	Name    string
	Message string
	Due     time.Time       // of SCHEDULED; zero: none
	Former  json.RawMessage // a former state of the run, which is proposed again; nil: the fields above

	// Still tells whether the run, as just read, is what it was.
	Still func(run *prefect.FlowRun) bool
}

// Proposed is what became of a Change.
type Proposed struct {
	Accepted bool
	Answer   string // of the server, or why nothing was proposed
}

// Each proposal is sent a few times at most.
const maxProposals = 4

// Propose reads the run before each attempt, and sends one request for each. The
// proposal has a transition id of its own: so an attempt whose answer was lost is
// recognised in the run's state, and is not repeated on a run that has moved on
// (a server accepts SCHEDULED from RUNNING and COMPLETED; seen on 3.8.8 and
// 2.20.25). An error means that the effect is not known, or that no server could
// be asked.
func (s *Session) Propose(ctx context.Context, c Change) (Proposed, error) {
	id := uuid.NewString()
	body := prefect.Proposal{State: c.proposal(id)}
	var failed error
	for attempt := 0; ; attempt++ {
		run, err := s.Prefect.FlowRun(ctx, c.RunID)
		switch {
		case prefect.IsNotFound(err):
			return Proposed{Answer: "the flow run was deleted"}, nil
		case err != nil:
			return Proposed{}, err
		case hasTransition(run.State, id):
			return Proposed{Accepted: true, Answer: "ACCEPT"}, nil
		case !c.Still(run):
			return Proposed{Answer: fmt.Sprintf("the flow run has moved on to %s meanwhile", run.StateType)}, nil
		case attempt == maxProposals:
			return Proposed{}, failed
		}
		verdict, err := s.Prefect.SetStateOnce(ctx, c.RunID, body)
		if err == nil {
			return Proposed{
				Accepted: verdict.Status == "ACCEPT" || hasTransition(verdict.State, id),
				Answer:   strings.TrimSpace(verdict.Status + " " + verdict.Reason),
			}, nil
		}
		if prefect.IsInvalid(err) || prefect.IsDenied(err) {
			return Proposed{}, err
		}
		failed = err
		if s.Options.Sleep(ctx, 250*time.Millisecond<<attempt) != nil {
			return Proposed{}, failed
		}
	}
}

func hasTransition(state *prefect.State, id string) bool {
	return state != nil && strings.EqualFold(state.Details.TransitionID, id)
}

// proposal is the body's state. Unknown keys beside these are refused by the server.
func (c Change) proposal(transitionID string) json.RawMessage {
	if c.Former != nil {
		return again(c.Former, transitionID)
	}
	details := map[string]any{"transition_id": transitionID}
	if !c.Due.IsZero() {
		details["scheduled_time"] = c.Due.UTC().Format(time.RFC3339Nano)
	}
	return StateBody(c.Type, c.Name, c.Message, details)
}

// StateBody encodes a proposed state.
func StateBody(kind, name, message string, details map[string]any) json.RawMessage {
	state := map[string]any{"type": kind, "name": name, "state_details": details}
	if message != "" {
		state["message"] = message
	}
	body, err := json.Marshal(state)
	if err != nil {
		panic(err) // strings and times always encode
	}
	return body
}

// again keeps what a former state says and drops what the server gives it anew.
func again(former json.RawMessage, transitionID string) json.RawMessage {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(former, &whole); err != nil {
		panic(err) // it was decoded before
	}
	kept := map[string]any{}
	for _, key := range []string{"type", "name", "message", "data"} {
		if value, ok := whole[key]; ok {
			kept[key] = value
		}
	}
	details := map[string]any{}
	if json.Unmarshal(whole["state_details"], &details) != nil || details == nil {
		details = map[string]any{}
	}
	details["transition_id"] = transitionID
	kept["state_details"] = details
	body, err := json.Marshal(kept)
	if err != nil {
		panic(err) // it was JSON a moment ago
	}
	return body
}
