package prefectserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Call sends a request to the API. body and answer may be nil. A server whose
// database is locked, as SQLite's is now and then, answers 503 and has done nothing:
// it is asked again, as Prefect's own client does.
func (s *Server) Call(ctx context.Context, method, path string, body, answer any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		status, data, err := s.send(ctx, method, path, payload)
		switch {
		case err != nil:
			return err
		case status == http.StatusServiceUnavailable && try < 10:
			time.Sleep(300 * time.Millisecond)
			continue
		case status >= 300:
			return fmt.Errorf("%s %s: %d: %s", method, path, status, data)
		case answer == nil:
			return nil
		}
		return json.Unmarshal(data, answer)
	}
}

func (s *Server) send(ctx context.Context, method, path string, payload []byte) (status int, data []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.API+path, bytes.NewReader(payload))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err = io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

// State is a state of a flow run or task run.
type State struct {
	Type      string    `json:"type"`
	Name      string    `json:"name"`
	Message   string    `json:"message"`
	Timestamp time.Time `json:"timestamp"`
	Details   struct {
		TransitionID  string     `json:"transition_id"`
		ScheduledTime *time.Time `json:"scheduled_time"`
	} `json:"state_details"`
}

// FlowRun is a flow run as the server shows it.
type FlowRun struct {
	ID                string         `json:"id"`
	Name              string         `json:"name"`
	StateType         string         `json:"state_type"`
	StateName         string         `json:"state_name"`
	State             *State         `json:"state"`
	ExpectedStartTime *time.Time     `json:"expected_start_time"`
	NextStart         *time.Time     `json:"next_scheduled_start_time"`
	StartTime         *time.Time     `json:"start_time"`
	PID               string         `json:"infrastructure_pid"`
	RunCount          int            `json:"run_count"`
	JobVariables      map[string]any `json:"job_variables"`
	AutoScheduled     bool           `json:"auto_scheduled"`
}

// FlowRun reads one run.
func (s *Server) FlowRun(ctx context.Context, id string) (FlowRun, error) {
	var run FlowRun
	return run, s.Call(ctx, "GET", "/flow_runs/"+id, nil, &run)
}

// FlowRuns reads runs, by id. One that does not exist is left out.
func (s *Server) FlowRuns(ctx context.Context, ids []string) (map[string]FlowRun, error) {
	found := map[string]FlowRun{}
	for page := range slices.Chunk(ids, 200) { // the most that a server answers
		var runs []FlowRun
		filter := map[string]any{"flow_runs": map[string]any{"id": map[string]any{"any_": page}}, "limit": len(page)}
		if err := s.Call(ctx, "POST", "/flow_runs/filter", filter, &runs); err != nil {
			return nil, err
		}
		for _, run := range runs {
			found[run.ID] = run
		}
	}
	return found, nil
}

// SetState proposes a state for a run, as the UI does.
func (s *Server) SetState(ctx context.Context, id string, state map[string]any) error {
	return s.Call(ctx, "POST", "/flow_runs/"+id+"/set_state", map[string]any{"state": state}, nil)
}

// States lists the states of a run, oldest first.
func (s *Server) States(ctx context.Context, id string) ([]State, error) {
	var states []State
	return states, s.Call(ctx, "GET", "/flow_run_states/?flow_run_id="+id, nil, &states)
}

// CreatePool makes a kubernetes work pool.
func (s *Server) CreatePool(ctx context.Context, name string, template json.RawMessage) error {
	return s.Call(ctx, "POST", "/work_pools/", map[string]any{"name": name, "type": "kubernetes", "base_job_template": template}, nil)
}

// CreateFlow makes a flow, or finds the one of that name, and returns its id.
func (s *Server) CreateFlow(ctx context.Context, name string) (string, error) {
	return s.create(ctx, "/flows/", map[string]any{"name": name})
}

// CreateDeployment makes a deployment and returns its id. more may add fields.
func (s *Server) CreateDeployment(ctx context.Context, flowID, name, pool string, more map[string]any) (string, error) {
	body := map[string]any{"name": name, "flow_id": flowID, "work_pool_name": pool, "enforce_parameter_schema": false}
	for k, v := range more {
		body[k] = v
	}
	return s.create(ctx, "/deployments/", body)
}

// CreateRun makes a run of a deployment, due at a time, and returns its id.
func (s *Server) CreateRun(ctx context.Context, deploymentID string, due time.Time, more map[string]any) (string, error) {
	body := map[string]any{"state": map[string]any{"type": "SCHEDULED", "name": "Scheduled",
		"state_details": map[string]any{"scheduled_time": due.UTC().Format(time.RFC3339Nano)}}}
	for k, v := range more {
		body[k] = v
	}
	return s.create(ctx, "/deployments/"+deploymentID+"/create_flow_run", body)
}

func (s *Server) create(ctx context.Context, path string, body any) (string, error) {
	var answer struct {
		ID string `json:"id"`
	}
	return answer.ID, s.Call(ctx, "POST", path, body, &answer)
}

// WaitForState waits until a run's state is of a type, and returns the run. A
// final state of another type is an error.
func (s *Server) WaitForState(ctx context.Context, id, want string) (FlowRun, error) {
	for {
		run, err := s.FlowRun(ctx, id)
		if err == nil && run.StateType == want {
			return run, nil
		}
		if err == nil && IsFinal(run.StateType) {
			return run, fmt.Errorf("flow run %s is %s, not %s: %s", id, run.StateType, want, run.State.Message)
		}
		select {
		case <-ctx.Done():
			return run, fmt.Errorf("flow run %s is %s, not %s: %w", id, run.StateType, want, errors.Join(context.Cause(ctx), err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// IsFinal tells whether a state type is one that a run ends in.
func IsFinal(state string) bool {
	switch state {
	case "COMPLETED", "FAILED", "CRASHED", "CANCELLED":
		return true
	}
	return false
}
