package prefecttest

import (
	"net/http"
	"slices"
	"time"

	"slipway/prefect"
)

func (s *Server) newFlow(body Doc) Doc {
	if old := find(s.flows, "name", body["name"]); old != nil {
		return old
	}
	flow := over(over(s.fresh(), Doc{"tags": []any{}, "labels": Doc{}}), body)
	s.flows = append(s.flows, flow)
	return flow
}

func (s *Server) createFlow(_ *http.Request, body Doc) (int, any, *fault) {
	return http.StatusCreated, s.newFlow(body), nil
}

// read answers the document that the path names, or 404 with these words.
func read(docs []Doc, key, value, words string) (int, any, *fault) {
	if d := find(docs, key, value); d != nil {
		return http.StatusOK, d, nil
	}
	return 0, nil, missing(words)
}

func (s *Server) readFlow(r *http.Request, _ Doc) (int, any, *fault) {
	return read(s.flows, "id", r.PathValue("id"), "Flow not found")
}

func (s *Server) filterFlows(_ *http.Request, body Doc) (int, any, *fault) {
	by, _ := body["flows"].(Doc)
	return s.page(s.flows, body, "NAME_ASC", func(d Doc) bool { return anyOf(by["id"], d["id"]) && anyOf(by["name"], d["name"]) })
}

func (s *Server) newDeployment(body Doc) Doc {
	d := over(over(s.fresh(), Doc{
		"version": nil, "description": nil, "paused": false, "schedules": []any{}, "job_variables": Doc{}, "parameters": Doc{}, "tags": []any{},
		"work_pool_name": nil, "work_queue_name": nil, "work_queue_id": nil, "last_polled": nil, "parameter_openapi_schema": Doc{}, "path": nil,
		"pull_steps": nil, "entrypoint": nil, "storage_document_id": nil, "infrastructure_document_id": nil, "created_by": nil, "updated_by": nil,
		"status": "NOT_READY", "enforce_parameter_schema": true, "labels": Doc{}, "concurrency_limit": nil, "global_concurrency_limit": nil, "concurrency_options": nil,
	}), body)
	if d["concurrency_limit"] != nil {
		d["global_concurrency_limit"] = over(s.fresh(), Doc{"name": "deployment:" + d["id"].(string), "limit": d["concurrency_limit"], "active": true, "active_slots": 0, "slot_decay_per_second": 0.0})
	}
	if pool := find(s.pools, "name", d["work_pool_name"]); pool != nil {
		name, _ := d["work_queue_name"].(string)
		q := s.queue(pool, name)
		if q == nil {
			q = find(s.queues, "id", pool["default_queue_id"])
		}
		d["work_queue_id"], d["work_queue_name"] = q["id"], q["name"]
	}
	s.deploys = append(s.deploys, d)
	return d
}

func (s *Server) createDeployment(_ *http.Request, body Doc) (int, any, *fault) {
	return http.StatusCreated, s.newDeployment(body), nil
}

func (s *Server) readDeployment(r *http.Request, _ Doc) (int, any, *fault) {
	return read(s.deploys, "id", r.PathValue("id"), "Deployment not found")
}

func (s *Server) readDeploymentByName(r *http.Request, _ Doc) (int, any, *fault) {
	for _, d := range s.deploys {
		flow := find(s.flows, "id", d["flow_id"])
		if d["name"] == r.PathValue("name") && flow["name"] == r.PathValue("flow") {
			return http.StatusOK, d, nil
		}
	}
	return 0, nil, missing("Deployment not found")
}

func (s *Server) deleteDeployment(r *http.Request, _ Doc) (int, any, *fault) {
	before := len(s.deploys)
	s.deploys = slices.DeleteFunc(s.deploys, func(d Doc) bool { return d["id"] == r.PathValue("id") })
	if len(s.deploys) == before {
		return 0, nil, missing("Deployment not found")
	}
	return http.StatusNoContent, nil, nil
}

func (s *Server) filterDeployments(_ *http.Request, body Doc) (int, any, *fault) {
	by, _ := body["deployments"].(Doc)
	byPool, _ := body["work_pools"].(Doc)
	return s.page(s.deploys, body, "NAME_ASC", func(d Doc) bool {
		return anyOf(by["id"], d["id"]) && anyOf(byPool["name"], d["work_pool_name"])
	})
}

func (s *Server) createLogs(_ *http.Request, body Doc) (int, any, *fault) {
	lines, _ := body[""].([]any)
	for _, line := range lines {
		if d, ok := line.(Doc); ok {
			s.logs = append(s.logs, d)
		}
	}
	return http.StatusCreated, nil, nil
}

// filterLogs knows the filter flow_run_id.any_.
func (s *Server) filterLogs(_ *http.Request, body Doc) (int, any, *fault) {
	by, _ := body["logs"].(Doc)
	return s.page(s.logs, body, "TIMESTAMP_ASC", func(d Doc) bool { return anyOf(by["flow_run_id"], d["flow_run_id"]) })
}

// filterEvents knows the filter resource.id.
func (s *Server) filterEvents(_ *http.Request, body Doc) (int, any, *fault) {
	filter, _ := body["filter"].(Doc)
	resource, _ := filter["resource"].(Doc)
	ids, _ := resource["id"].([]any)
	found := []Doc{}
	for _, event := range s.events {
		if of, _ := event["resource"].(Doc); slices.Contains(ids, of["prefect.resource.id"]) {
			found = append(found, event)
		}
	}
	return http.StatusOK, Doc{"events": found, "total": len(found), "next_page": nil}, nil
}

func (s *Server) readVariable(r *http.Request, _ Doc) (int, any, *fault) {
	return read(s.variables, "name", r.PathValue("name"), "Variable not found.")
}

func (s *Server) readBlock(r *http.Request, _ Doc) (int, any, *fault) {
	return read(s.blocks, "id", r.PathValue("id"), "Block document not found")
}

func (s *Server) readBlockByName(r *http.Request, _ Doc) (int, any, *fault) {
	for _, b := range s.blocks {
		if b["block_type_name"] == r.PathValue("slug") && b["name"] == r.PathValue("name") {
			return http.StatusOK, b, nil
		}
	}
	return 0, nil, missing("Block document not found")
}

// AddPool makes a work pool with its default queue and returns its id.
func (s *Server) AddPool(name string, fields Doc) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newPool(over(Doc{"name": name}, fields))["id"].(string)
}

// AddQueue makes a work queue of a pool and returns its id.
func (s *Server) AddQueue(pool, name string, fields Doc) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := find(s.pools, "name", pool)
	if owner == nil {
		s.tb.Fatalf("prefecttest: there is no work pool %q", pool)
	}
	return s.newQueue(owner, over(Doc{"name": name}, fields))["id"].(string)
}

// AddDeployment makes a deployment of a pool, and the flow of that name if there
// is none, and returns the deployment's id.
func (s *Server) AddDeployment(pool, flow, name string, fields Doc) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.newFlow(Doc{"name": flow})
	return s.newDeployment(over(Doc{"name": name, "flow_id": f["id"], "work_pool_name": pool}, fields))["id"].(string)
}

// AddRun makes a scheduled run of a deployment and returns its id.
func (s *Server) AddRun(deployment string, due time.Time, fields Doc) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := find(s.deploys, "id", deployment)
	if d == nil {
		s.tb.Fatalf("prefecttest: there is no deployment %q", deployment)
	}
	state := Doc{"type": "SCHEDULED", "state_details": Doc{"scheduled_time": prefect.Timestamp(due)}}
	return s.newDeploymentRun(d, over(Doc{"state": state}, fields))["id"].(string)
}

// AddVariable sets a variable.
func (s *Server) AddVariable(name string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.variables = append(s.variables, over(s.fresh(), Doc{"name": name, "value": value, "tags": []any{}}))
}

// AddBlock makes a block document of the type with this slug and returns its id.
func (s *Server) AddBlock(typeSlug, name string, data Doc) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	block := over(s.fresh(), Doc{"name": name, "data": data, "block_type_name": typeSlug, "block_type": Doc{"slug": typeSlug}, "is_anonymous": false})
	s.blocks = append(s.blocks, block)
	return block["id"].(string)
}

// Force puts a run into a state past all rules, as time or an operator would.
func (s *Server) Force(run string, state Doc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := find(s.runs, "id", run)
	if r == nil {
		s.tb.Fatalf("prefecttest: there is no flow run %q", run)
	}
	entered := s.newState(run, state)
	if at := stampOf(state["timestamp"]); at != "" {
		entered["timestamp"] = at
	}
	s.enter(r, entered)
}

// Events is what POST /events has brought.
func (s *Server) Events() []Doc {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Logs is what POST /logs/ has brought.
func (s *Server) Logs() []Doc {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logs)
}
