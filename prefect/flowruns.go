package prefect

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// FlowRun is a flow run. Absent ids are "".
type FlowRun struct {
	ID                     string     `json:"id"`
	Name                   string     `json:"name"`
	FlowID                 string     `json:"flow_id"`
	DeploymentID           string     `json:"deployment_id"`
	StateID                string     `json:"state_id"`
	StateType              string     `json:"state_type"`
	StateName              string     `json:"state_name"`
	State                  *State     `json:"state"` // nil in a poll's answer
	NextScheduledStartTime *time.Time `json:"next_scheduled_start_time"`
	ExpectedStartTime      *time.Time `json:"expected_start_time"`
	WorkPoolName           string     `json:"work_pool_name"`
	WorkQueueID            string     `json:"work_queue_id"`
	InfrastructurePID      string     `json:"infrastructure_pid"`
	RunCount               int        `json:"run_count"`
	EmpiricalPolicy        struct {
		RetryType string `json:"retry_type"` // in_process: its engine tries again, and no poll returns it
	} `json:"empirical_policy"`
	Raw json.RawMessage `json:"-"` // the whole document, as sent
}

// UnmarshalJSON keeps the document beside the fields.
func (r *FlowRun) UnmarshalJSON(data []byte) error {
	type fields FlowRun
	return keepRaw(data, (*fields)(r), &r.Raw)
}

// FlowRun reads one run, with its state.
func (c *Client) FlowRun(ctx context.Context, id string) (*FlowRun, error) {
	return do[*FlowRun](ctx, c, call{op: "read flow run " + id, method: http.MethodGet, path: "/flow_runs/" + seg(id)})
}

// RunFilter picks flow runs.
type RunFilter struct {
	WorkPool   string   // name; "": any
	StateTypes []string // PENDING, RUNNING, ...; none: any
	StateNames []string // as well as those of the types: AwaitingRetry, ...
	IDs        []string // nil: any
	Deployment string   // id; "": any
	WorkQueue  string   // id; "": any
}

// FlowRuns reads all runs that a filter picks, page by page. Those that do not
// exist are left out.
func (c *Client) FlowRuns(ctx context.Context, f RunFilter) ([]FlowRun, error) {
	runs := map[string]any{}
	if len(f.StateTypes) > 0 {
		state := map[string]any{"type": map[string]any{"any_": f.StateTypes}}
		if len(f.StateNames) > 0 {
			state["operator"], state["name"] = "or_", map[string]any{"any_": f.StateNames}
		}
		runs["state"] = state
	}
	body := map[string]any{"flow_runs": runs, "sort": "ID_DESC", "limit": most}
	if f.WorkPool != "" {
		body["work_pools"] = map[string]any{"name": map[string]any{"any_": []string{f.WorkPool}}}
	}
	if f.Deployment != "" {
		runs["deployment_id"] = map[string]any{"any_": []string{f.Deployment}}
	}
	if f.WorkQueue != "" {
		body["work_pool_queues"] = map[string]any{"id": map[string]any{"any_": []string{f.WorkQueue}}}
	}
	if f.IDs == nil {
		return c.pages(ctx, body)
	}
	var all []FlowRun
	for some := range slices.Chunk(f.IDs, most) {
		runs["id"] = map[string]any{"any_": some}
		found, err := c.pages(ctx, body)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// pages reads on until a page is not full.
func (c *Client) pages(ctx context.Context, body map[string]any) ([]FlowRun, error) {
	var all []FlowRun
	for {
		body["offset"] = len(all)
		page, err := do[[]FlowRun](ctx, c, call{op: "read flow runs", method: http.MethodPost, path: "/flow_runs/filter", body: body})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < most {
			return all, nil
		}
	}
}

// State is a state of a run, or one of its former ones.
type State struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"` // SCHEDULED, PENDING, RUNNING, ...
	Name      string          `json:"name"`
	Message   string          `json:"message"`
	Timestamp time.Time       `json:"timestamp"`
	Details   StateDetails    `json:"state_details"`
	Raw       json.RawMessage `json:"-"` // the whole document, as sent
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

// FlowRunStates lists all states that a run has had.
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
	Delay  time.Duration // of WAIT
	State  *State        // the run's state now; nil if the server sent none
}

// SetState proposes a state. A refusal is a Verdict and no error. Attempts repeat
// the same body, and so the same transition id: the server takes the second for
// the first one's repeat.
func (c *Client) SetState(ctx context.Context, id string, p Proposal) (*Verdict, error) {
	answer, err := do[struct {
		Status  string `json:"status"`
		State   *State `json:"state"`
		Details struct {
			Reason string  `json:"reason"`
			Delay  float64 `json:"delay_seconds"`
		} `json:"details"`
	}](ctx, c, call{op: "set the state of flow run " + id, method: http.MethodPost, path: "/flow_runs/" + seg(id) + "/set_state", body: p})
	if err != nil {
		return nil, err
	}
	return &Verdict{
		Status: answer.Status,
		Reason: answer.Details.Reason,
		Delay:  time.Duration(answer.Details.Delay * float64(time.Second)),
		State:  answer.State,
	}, nil
}

// SetInfrastructurePID tells the server where the run's Job is.
func (c *Client) SetInfrastructurePID(ctx context.Context, id, pid string) error {
	_, err := do[any](ctx, c, call{
		op: "write the infrastructure pid of flow run " + id, method: http.MethodPatch,
		path: "/flow_runs/" + seg(id), body: map[string]any{"infrastructure_pid": pid},
	})
	return err
}
