package prefecttest

import (
	"net/http"
	"slices"

	"github.com/google/uuid"
)

// newState completes a state as sent by a client.
func (s *Server) newState(runID any, body Doc) Doc {
	kind, _ := body["type"].(string)
	state := Doc{"id": uuid.NewString(), "type": kind, "name": names[kind], "timestamp": s.time(), "message": body["message"], "data": body["data"]}
	if !s.has("messages are kept") {
		state["message"] = nil
	}
	if name, _ := body["name"].(string); name != "" {
		state["name"] = name
	}
	details := Doc{
		"flow_run_id": nil, "task_run_id": nil, "child_flow_run_id": nil, "scheduled_time": nil, "cache_key": nil, "cache_expiration": nil,
		"deferred": false, "untrackable_result": false, "pause_timeout": nil, "pause_reschedule": false, "pause_key": nil, "run_input_keyset": nil,
		"refresh_cache": nil, "retriable": nil, "transition_id": nil, "task_parameters_id": nil, "traceparent": nil, "deployment_concurrency_lease_id": nil,
	}
	given, _ := body["state_details"].(Doc)
	for key, value := range given {
		if _, known := details[key]; known {
			details[key] = value
		}
	}
	details["flow_run_id"] = runID
	if at := stampOf(details["scheduled_time"]); at != "" {
		details["scheduled_time"] = at
	} else if kind == "SCHEDULED" {
		details["scheduled_time"] = s.time()
	}
	state["state_details"] = details
	return state
}

// names are those that a state without a name gets.
var names = map[string]string{
	"SCHEDULED": "Scheduled", "PENDING": "Pending", "RUNNING": "Running", "COMPLETED": "Completed", "FAILED": "Failed",
	"CRASHED": "Crashed", "CANCELLING": "Cancelling", "CANCELLED": "Cancelled", "PAUSED": "Paused",
}

// enter makes a state the run's own.
func (s *Server) enter(run, state Doc) {
	id := run["id"].(string)
	s.states[id] = append(s.states[id], state)
	run["state"], run["state_id"], run["state_type"], run["state_name"] = state, state["id"], state["type"], state["name"]
	run["updated"], run["next_scheduled_start_time"] = s.time(), nil
	if !slices.Contains([]any{"PENDING", "RUNNING", "CANCELLING", "PAUSED"}, state["type"]) {
		delete(s.slots, id)
	}
	switch state["type"] {
	case "SCHEDULED":
		at := details(state)["scheduled_time"]
		run["next_scheduled_start_time"] = at
		if run["expected_start_time"] == nil {
			run["expected_start_time"] = at
		}
	case "RUNNING":
		run["run_count"] = number(run["run_count"]) + 1
		if run["start_time"] == nil {
			run["start_time"] = s.time()
		}
	}
}

func (s *Server) newRun(body Doc) Doc {
	run := over(over(s.fresh(), Doc{
		"name": "funky-otter", "flow_id": nil, "state_id": nil, "deployment_id": nil, "deployment_version": nil, "work_queue_id": nil, "work_queue_name": nil,
		"flow_version": nil, "parameters": Doc{}, "idempotency_key": nil, "context": Doc{},
		"empirical_policy": Doc{"max_retries": 0, "retry_delay_seconds": 0.0, "retries": nil, "retry_delay": nil, "pause_keys": []any{}, "resuming": false, "retry_type": nil},
		"tags":             []any{}, "labels": Doc{}, "parent_task_run_id": nil, "state_type": nil, "state_name": nil, "run_count": 0.0,
		"expected_start_time": nil, "next_scheduled_start_time": nil, "start_time": nil, "end_time": nil, "total_run_time": 0.0,
		"estimated_run_time": 0.0, "estimated_start_time_delta": 0.0, "auto_scheduled": false, "infrastructure_document_id": nil,
		"infrastructure_pid": nil, "created_by": nil, "work_pool_id": nil, "work_pool_name": nil, "state": nil, "job_variables": Doc{},
	}), body)
	s.runs = append(s.runs, run)
	if state, ok := body["state"].(Doc); ok {
		s.enter(run, s.newState(run["id"], state))
	} else {
		s.enter(run, s.newState(run["id"], Doc{"type": "PENDING"}))
	}
	return run
}

func (s *Server) createRun(_ *http.Request, body Doc) (int, any, *fault) {
	return http.StatusCreated, s.newRun(body), nil
}

// createDeploymentRun makes a run that goes to the deployment's queue.
func (s *Server) createDeploymentRun(r *http.Request, body Doc) (int, any, *fault) {
	d := find(s.deploys, "id", r.PathValue("id"))
	if d == nil {
		return 0, nil, missing("Deployment not found")
	}
	return http.StatusCreated, s.newDeploymentRun(d, body), nil
}

func (s *Server) newDeploymentRun(d, body Doc) Doc {
	run := over(Doc{"flow_id": d["flow_id"], "deployment_id": d["id"], "work_queue_id": d["work_queue_id"], "work_queue_name": d["work_queue_name"]}, body)
	if q := find(s.queues, "id", d["work_queue_id"]); q != nil {
		run["work_pool_id"], run["work_pool_name"] = q["work_pool_id"], q["work_pool_name"]
	}
	if run["state"] == nil {
		run["state"] = Doc{"type": "SCHEDULED"}
	}
	return s.newRun(run)
}

// run finds the run of a path.
func (s *Server) run(r *http.Request, words string) (Doc, *fault) {
	id := r.PathValue("id")
	if _, err := uuid.Parse(id); err != nil {
		return nil, missing("Not Found")
	}
	if run := find(s.runs, "id", id); run != nil {
		return run, nil
	}
	return nil, missing(words)
}

func (s *Server) readRun(r *http.Request, _ Doc) (int, any, *fault) {
	run, f := s.run(r, "Flow run not found")
	return http.StatusOK, run, f
}

func (s *Server) patchRun(r *http.Request, body Doc) (int, any, *fault) {
	run, f := s.run(r, "Flow run not found")
	if f != nil {
		return 0, nil, f
	}
	known := []string{"name", "flow_version", "parameters", "empirical_policy", "tags", "infrastructure_pid", "job_variables"}
	for key := range body {
		if s.has("unknown keys of a run") && !slices.Contains(known, key) {
			return 0, nil, invalid("extra_forbidden", "Extra inputs are not permitted", "body", key)
		}
	}
	over(run, body)
	return http.StatusNoContent, nil, nil
}

func (s *Server) patchLabels(r *http.Request, body Doc) (int, any, *fault) {
	run, f := s.run(r, "Flow run not found")
	if f != nil {
		return 0, nil, f
	}
	labels, _ := run["labels"].(Doc)
	run["labels"] = over(over(Doc{}, labels), body)
	return http.StatusNoContent, nil, nil
}

func (s *Server) createEvents(_ *http.Request, body Doc) (int, any, *fault) {
	events, _ := body[""].([]any)
	for i, one := range events {
		event, _ := one.(Doc)
		for _, key := range []string{"occurred", "event", "resource", "id"} {
			if event[key] == nil && s.has("whole events") {
				return 0, nil, invalid("missing", "Field required", "body", i, key)
			}
		}
		if find(s.events, "id", event["id"]) == nil || !s.has("one event of an id") {
			s.events = append(s.events, event)
		}
	}
	return http.StatusNoContent, nil, nil
}

func (s *Server) deleteRun(r *http.Request, _ Doc) (int, any, *fault) {
	run, f := s.run(r, "Flow run not found")
	if f != nil {
		return 0, nil, f
	}
	s.runs = slices.DeleteFunc(s.runs, func(d Doc) bool { return d["id"] == run["id"] })
	return http.StatusNoContent, nil, nil
}

func (s *Server) listStates(r *http.Request, _ Doc) (int, any, *fault) {
	return http.StatusOK, append([]Doc{}, s.states[r.URL.Query().Get("flow_run_id")]...), nil
}
