package prefect

import (
	"context"
	"encoding/json"
	"net/http"
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
	State                  *State     `json:"state"` // nil in a poll's answer before 3.9
	NextScheduledStartTime *time.Time `json:"next_scheduled_start_time"`
	StartTime              *time.Time `json:"start_time"`     // of the first RUNNING; nil before it
	WorkPoolName           string     `json:"work_pool_name"` // "" in a poll's answer
	WorkQueueID            string     `json:"work_queue_id"`
	InfrastructurePID      string     `json:"infrastructure_pid"`
	RunCount               int        `json:"run_count"`
	EmpiricalPolicy        struct {
		RetryType string `json:"retry_type"` // see WaitsForEngine
	} `json:"empirical_policy"`

	// Raw is the document as sent: whole from FlowRun, perhaps without its
	// parameters from ScheduledFlowRuns, nil from lists.
	Raw     json.RawMessage `json:"-"`
	Trimmed bool            `json:"-"` // Raw lacks the parameters; FlowRun has them
}

// WaitsForEngine tells whether the run's own engine tries it again, in the pod that it
// has: no poll returns it. The server keeps the word while the further try runs (3.8.8,
// 2.20.25).
func (r *FlowRun) WaitsForEngine() bool { return r.EmpiricalPolicy.RetryType == "in_process" }

// TransitionID is that of the run's state; "" if it has none.
func (r *FlowRun) TransitionID() string {
	if r.State == nil {
		return ""
	}
	return r.State.Details.TransitionID
}

// UnmarshalJSON keeps the whole document beside the fields.
func (r *FlowRun) UnmarshalJSON(data []byte) error {
	type fields FlowRun
	return keepRaw(data, (*fields)(r), &r.Raw)
}

// listedRun is a flow run of a list, which holds no document: a run's parameters
// may have 512 KiB, and there may be 10,000 runs.
type listedRun FlowRun

// UnmarshalJSON keeps the fields alone.
func (r *listedRun) UnmarshalJSON(data []byte) error {
	type fields listedRun
	err := json.Unmarshal(data, (*fields)(r))
	if r.State != nil {
		r.State.Raw = nil
	}
	return err
}

// FlowRun reads one run, with its state and its whole document.
func (c *Client) FlowRun(ctx context.Context, id string) (*FlowRun, error) {
	return read[FlowRun](ctx, c, call{op: "read flow run " + id, method: http.MethodGet, path: "/flow_runs/" + seg(id)})
}

// RunFilter picks flow runs. All its parts must hold.
type RunFilter struct {
	WorkPool   string     // name; "": any
	StateTypes []string   // PENDING, RUNNING, ...; none: any
	StateNames []string   // as well as those of the types: AwaitingRetry, ...
	IDs        []string   // nil: any
	Deployment string     // id; "": any
	WorkQueue  string     // id; "": any
	DueFrom    *time.Time // next scheduled start time, inclusive; nil: no bound. A run without such a time is not due
	DueUntil   *time.Time // inclusive, too
	Limit      int        // at most so many; 0: all
}

// FlowRuns reads the runs that a filter picks, page by page, in the order of their
// ids. Those that do not exist are left out. The runs have their state but no Raw.
func (c *Client) FlowRuns(ctx context.Context, f RunFilter) ([]FlowRun, error) {
	var all []FlowRun
	err := c.EachFlowRun(ctx, f, func(r *FlowRun) error {
		all = append(all, *r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// EachFlowRun hands on the runs that a filter picks, as FlowRuns reads them, but
// holds no more than one page of them. It ends with the first error of each.
//
// Pages go by offset. When runs enter or leave the filter meanwhile, a run may come
// twice or not at all: absence here proves nothing, and reading the run by its id
// does.
func (c *Client) EachFlowRun(ctx context.Context, f RunFilter, each func(*FlowRun) error) error {
	k := call{op: "read flow runs", method: http.MethodPost, path: "/flow_runs/filter"}
	handOn := func(r *listedRun) error { return each((*FlowRun)(r)) }
	if f.IDs == nil {
		return eachPage(ctx, c, k, f.body(nil), f.Limit, handOn)
	}
	left := f.Limit
	for ids := range slices.Chunk(f.IDs, maxPageSize) {
		most := len(ids)
		if f.Limit > 0 {
			most = min(most, left)
		}
		err := eachPage(ctx, c, k, f.body(ids), most, func(r *listedRun) error {
			left--
			return handOn(r)
		})
		if err != nil || f.Limit > 0 && left == 0 {
			return err
		}
	}
	return nil
}

// body is the filter as the server reads it, for some ids or for nil.
func (f RunFilter) body(ids []string) map[string]any {
	runs := map[string]any{}
	body := map[string]any{"flow_runs": runs, "sort": "ID_DESC"}
	if ids != nil {
		runs["id"] = anyOf(ids...)
	}
	if len(f.StateTypes) > 0 {
		state := map[string]any{"type": anyOf(f.StateTypes...)}
		if len(f.StateNames) > 0 {
			state["operator"], state["name"] = "or_", anyOf(f.StateNames...)
		}
		runs["state"] = state
	}
	if f.Deployment != "" {
		runs["deployment_id"] = anyOf(f.Deployment)
	}
	due := map[string]any{}
	if f.DueFrom != nil {
		due["after_"] = Timestamp(*f.DueFrom)
	}
	if f.DueUntil != nil {
		due["before_"] = Timestamp(*f.DueUntil)
	}
	if len(due) > 0 {
		runs["next_scheduled_start_time"] = due
	}
	if f.WorkPool != "" {
		body["work_pools"] = map[string]any{"name": anyOf(f.WorkPool)}
	}
	if f.WorkQueue != "" {
		body["work_pool_queues"] = map[string]any{"id": anyOf(f.WorkQueue)}
	}
	return body
}

// anyOf is a filter that a value passes which is one of these.
func anyOf(values ...string) map[string]any { return map[string]any{"any_": values} }

// SetInfrastructurePID tells the server where the run's Job is.
func (c *Client) SetInfrastructurePID(ctx context.Context, id, pid string) error {
	_, err := do[any](ctx, c, call{
		op: "write the infrastructure pid of flow run " + id, method: http.MethodPatch,
		path: "/flow_runs/" + seg(id), body: map[string]any{"infrastructure_pid": pid},
	})
	return err
}
