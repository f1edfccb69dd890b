package prefect

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// State is a state of a run, or one of its former ones.
type State struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"` // SCHEDULED, PENDING, RUNNING, ...
	Name      string          `json:"name"`
	Message   string          `json:"message"`
	Timestamp time.Time       `json:"timestamp"`
	Details   StateDetails    `json:"state_details"`
	Raw       json.RawMessage `json:"-"` // the whole document, as sent; nil in the runs of a list
}

// StateDetails are those details of a state that Slipway reads.
type StateDetails struct {
	TransitionID  string     `json:"transition_id"`
	ScheduledTime *time.Time `json:"scheduled_time"`
}

// UnmarshalJSON keeps the document beside the fields.
func (s *State) UnmarshalJSON(data []byte) error {
	type fields State
	return keepRaw(data, (*fields)(s), &s.Raw)
}

// FlowRunStates lists all states that a run has had, the oldest first.
func (c *Client) FlowRunStates(ctx context.Context, id string) ([]State, error) {
	return do[[]State](ctx, c, call{
		op: "read the states of flow run " + id, method: http.MethodGet,
		path: "/flow_run_states/?flow_run_id=" + url.QueryEscape(id),
	})
}

// Proposal is the body of set_state. Keys of the state beside type, name,
// message, data and state_details are refused by the server.
type Proposal struct {
	State json.RawMessage `json:"state"`
	Force bool            `json:"force"`
}

// Verdict is the answer of set_state.
type Verdict struct {
	Status string // ACCEPT, REJECT, ABORT, WAIT
	Reason string
	State  *State // the run's state now; nil if the server sent none
}

// SetState claims a run. A refusal is a Verdict and no error. Attempts repeat the
// same body, and so the same transition id: the server takes the second for the
// first one's repeat. That holds while the run is in the state proposed, which is
// enough for PENDING: a claim is refused in the states that follow it. For all other
// states there is SetStateOnce.
func (c *Client) SetState(ctx context.Context, id string, p Proposal) (*Verdict, error) {
	return c.setState(ctx, id, p, false)
}

// SetStateOnce proposes a state in one attempt, whatever the answer. A repeat could
// come when the run has moved on, and the server does not guard it: SCHEDULED is
// accepted even from COMPLETED (2.20.25, 3.8.8). After an error for which
// MayHaveHappened is true the caller reads the run before it proposes again.
func (c *Client) SetStateOnce(ctx context.Context, id string, p Proposal) (*Verdict, error) {
	return c.setState(ctx, id, p, true)
}

func (c *Client) setState(ctx context.Context, id string, p Proposal, once bool) (*Verdict, error) {
	k := call{op: "set the state of flow run " + id, method: http.MethodPost, path: "/flow_runs/" + seg(id) + "/set_state", body: p, once: once}
	answer, err := read[struct {
		Status  string `json:"status"`
		State   *State `json:"state"`
		Details struct {
			Reason string `json:"reason"`
		} `json:"details"`
	}](ctx, c, k)
	if err == nil && answer.Status == "" {
		err = unexpected(k.op, errors.New("it has no status"))
	}
	if err != nil {
		return nil, err
	}
	return &Verdict{Status: answer.Status, Reason: answer.Details.Reason, State: answer.State}, nil
}
