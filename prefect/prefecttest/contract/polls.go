package contract

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"slipway/prefect"
)

func pollLimit(t *T) {
	w := t.world(nil)
	w.run(-time.Minute)
	answer := t.expect(422, "POST", "/work_pools/"+w.pool+"/get_scheduled_flow_runs", doc{"limit": 201})
	t.equal("detail", at(answer, "detail"), "Invalid limit: must be less than or equal to 200.")
	t.equal("runs at limit 0", len(w.poll(doc{"limit": 0})), 0)
	items := w.poll(nil)
	t.equal("runs", len(items), 1)
	t.equal("state of a polled run", at(items[0], "flow_run", "state"), nil)
	t.equal("queue name of a polled run", at(items[0], "flow_run", "work_queue_name"), nil)
	answer = t.expect(404, "POST", "/work_pools/"+w.pool+"/get_scheduled_flow_runs", doc{"work_queue_names": []string{"nope"}})
	t.equal("detail", at(answer, "detail"), "Work pool queue '"+w.pool+"/nope' not found.")
}

func pollMarks(t *T) {
	w := t.world(nil)
	w.poll(doc{"nonsense": 1})
	// The server marks them behind its answer.
	var queues []any
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		queues = t.filtered("/work_pools/"+w.pool+"/queues/filter", doc{})
		t.equal("queues", len(queues), 1)
		if at(queues[0], "status") == "READY" {
			break
		}
	}
	t.equal("status of the queue", at(queues[0], "status"), "READY")
	if at(queues[0], "last_polled") == nil {
		t.failf("the queue was never polled")
	}
	t.equal("status of the pool", at(t.expect(200, "GET", "/work_pools/"+w.pool, nil), "status"), "NOT_READY")
}

func labelsAndEvents(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	t.expect(204, "PATCH", "/flow_runs/"+run+"/labels", doc{"a": "1"})
	t.expect(204, "PATCH", "/flow_runs/"+run+"/labels", doc{"b": "2"})
	labels, _ := at(t.expect(200, "GET", "/flow_runs/"+run, nil), "labels").(doc)
	t.equal("merged labels", fmt.Sprintf("%v %v", labels["a"], labels["b"]), "1 2")
	t.expect(404, "PATCH", "/flow_runs/"+uuid.NewString()+"/labels", doc{"a": "1"})
	event := doc{"id": uuid.NewString(), "occurred": prefect.Timestamp(time.Now()), "event": "contract", "resource": doc{"prefect.resource.id": "contract.1"}}
	t.expect(204, "POST", "/events", []doc{event})
	delete(event, "resource")
	t.expect(422, "POST", "/events", []doc{event})
	t.expect(201, "POST", "/logs/", []doc{{"name": "n", "level": 20, "message": "m", "timestamp": prefect.Timestamp(time.Now()), "flow_run_id": uuid.NewString()}})
}

func unknownKeys(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	state := claim(nil)
	state["state_details"] = doc{"nonsense": 1}
	t.expect(201, "POST", "/flow_runs/"+run+"/set_state", doc{"state": state, "nonsense": 1})
	answer := t.expect(422, "POST", "/flow_runs/"+run+"/set_state", doc{"state": doc{"type": "RUNNING", "nonsense": 1}})
	details, _ := at(answer, "exception_detail").([]any)
	t.equal("details", len(details), 1)
	t.equal("type", at(details[0], "type"), "extra_forbidden")
	t.equal("detail", at(t.expect(404, "GET", "/flows/"+uuid.NewString(), nil), "detail"), "Flow not found")
}

func pollBounds(t *T) {
	w := t.world(nil)
	run := w.run(time.Hour)
	due := at(t.expect(200, "GET", "/flow_runs/"+run, nil), "next_scheduled_start_time")
	parsed, err := time.Parse(time.RFC3339Nano, due.(string))
	if err != nil {
		t.failf("due time: %v", err)
	}
	after := prefect.Timestamp(parsed.Add(time.Millisecond))
	t.equal("runs until now", len(w.poll(nil)), 0)
	t.equal("runs up to the due time", len(w.poll(doc{"scheduled_before": due})), 1)
	t.equal("runs from the due time on", len(w.poll(doc{"scheduled_before": after, "scheduled_after": due})), 1)
	t.equal("runs after the due time", len(w.poll(doc{"scheduled_before": after, "scheduled_after": after})), 0)
	t.equal("runs without a bound", len(t.expect(200, "POST", "/work_pools/"+w.pool+"/get_scheduled_flow_runs", doc{}).([]any)), 1)
}

func pollOrder(t *T) {
	w := t.world(nil)
	path := "/work_pools/" + w.pool + "/queues"
	t.expect(201, "POST", path, doc{"name": "later", "priority": 9})
	flow := t.expect(200, "GET", "/deployments/"+w.deployment, nil)
	d := t.expect(201, "POST", "/deployments/", doc{"name": "e", "flow_id": at(flow, "flow_id"), "work_pool_name": w.pool, "work_queue_name": "later"})
	low := world{t, w.pool, at(d, "id").(string)}.run(-time.Hour)
	second, first := w.run(-time.Minute), w.run(-2*time.Minute)
	items := w.poll(nil)
	t.equal("runs", len(items), 3)
	for i, want := range []string{first, second, low} {
		t.equal("a run's place", at(items[i], "flow_run", "id"), want)
	}
}

func limits(t *T) {
	w := t.world(nil)
	first, second, third := w.run(-3*time.Minute), w.run(-2*time.Minute), w.run(-time.Minute)
	t.expect(204, "PATCH", "/work_pools/"+w.pool, doc{"concurrency_limit": 2})
	t.equal("runs below the pool's limit", len(w.poll(nil)), 2)
	w.propose(201, "ACCEPT", first, claim(uuid.NewString()))
	t.equal("runs with one active", len(w.poll(nil)), 1)
	t.expect(204, "PATCH", "/work_pools/"+w.pool+"/queues/default", doc{"concurrency_limit": 1})
	t.equal("runs of a full queue", len(w.poll(nil)), 0)
	w.propose(201, "ACCEPT", second, claim(uuid.NewString()))
	w.propose(201, "ACCEPT", third, claim(uuid.NewString()))
}

func pauses(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	t.expect(204, "PATCH", "/work_pools/"+w.pool+"/queues/default", doc{"is_paused": true})
	t.equal("runs of a paused queue", len(w.poll(doc{"work_queue_names": []string{"default"}})), 0)
	t.expect(204, "PATCH", "/work_pools/"+w.pool+"/queues/default", doc{"is_paused": false})
	t.expect(204, "PATCH", "/work_pools/"+w.pool, doc{"is_paused": true})
	t.equal("runs of a paused pool", len(w.poll(nil)), 0)
	w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
}

func early(t *T) {
	w := t.world(nil)
	run := w.run(time.Hour)
	w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
	answer := w.propose(200, "WAIT", run, doc{"type": "RUNNING"})
	delay, _ := at(answer, "details", "delay_seconds").(float64)
	if delay < 3500 || delay > 3600 {
		t.failf("delay_seconds is %v, want nearly 3600", delay)
	}
}

func writes(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	t.expect(204, "PATCH", "/flow_runs/"+run, doc{"infrastructure_pid": "ns:job"})
	t.equal("pid", at(t.expect(200, "GET", "/flow_runs/"+run, nil), "infrastructure_pid"), "ns:job")
	t.expect(422, "PATCH", "/flow_runs/"+run, doc{"nonsense": 1})
	t.expect(404, "PATCH", "/flow_runs/"+uuid.NewString(), doc{"infrastructure_pid": "x"})
	t.expect(201, "POST", "/logs/", []doc{{"name": "n", "level": 20, "message": "m", "timestamp": prefect.Timestamp(time.Now()), "flow_run_id": run}})
	byID := doc{"deployments": doc{"id": doc{"any_": []string{w.deployment}}}}
	found, _ := t.expect(200, "POST", "/deployments/filter", byID).([]any)
	t.equal("deployments by id", len(found), 1)
	t.equal("a filtered deployment", found[0], t.expect(200, "GET", "/deployments/"+w.deployment, nil))
}

func heartbeat(t *T) {
	w := t.world(nil)
	t.equal("status", at(t.expect(200, "GET", "/work_pools/"+w.pool, nil), "status"), "NOT_READY")
	path := "/work_pools/" + w.pool + "/workers/heartbeat"
	t.equal("detail", at(t.expect(404, "POST", "/work_pools/nopool/workers/heartbeat", doc{"name": "w"}), "detail"), `Work pool "nopool" not found.`)
	t.expect(422, "POST", path, doc{"name": "w", "heartbeat_interval_seconds": 30.5})
	t.expect(204, "POST", path, doc{"name": "w", "heartbeat_interval_seconds": 30})
	workers, _ := t.expect(200, "POST", "/work_pools/"+w.pool+"/workers/filter", doc{"limit": 200}).([]any)
	t.equal("number of workers", len(workers), 1)
	t.equal("worker", at(workers[0], "name"), "w")
	t.equal("its status", at(workers[0], "status"), "ONLINE")
	t.equal("status", at(t.expect(200, "GET", "/work_pools/"+w.pool, nil), "status"), "READY")
}

func errorShapes(t *T) {
	w := t.world(nil)
	t.equal("detail", at(t.expect(404, "GET", "/work_pools/nopool", nil), "detail"), `Work pool "nopool" not found.`)
	none := uuid.NewString()
	t.equal("detail", at(t.expect(404, "GET", "/flow_runs/"+none, nil), "detail"), "Flow run not found")
	t.equal("message", at(t.expect(404, "POST", "/flow_runs/"+none+"/set_state", doc{"state": claim(nil)}), "exception_message"), "Flow run with id "+none+" not found")
	t.equal("detail", at(t.expect(404, "GET", "/flow_runs/no-uuid", nil), "detail"), "Not Found")
	t.equal("detail", at(t.expect(404, "GET", "/deployments/name/"+w.pool+"/none", nil), "detail"), "Deployment not found")
	t.equal("id", at(t.expect(200, "GET", "/deployments/name/"+w.pool+"/d", nil), "id"), w.deployment)
	t.equal("detail", at(t.expect(404, "GET", "/deployments/"+none, nil), "detail"), "Deployment not found")
	t.equal("detail", at(t.expect(404, "GET", "/variables/name/none", nil), "detail"), "Variable not found.")
	t.equal("detail", at(t.expect(404, "GET", "/block_documents/"+none, nil), "detail"), "Block document not found")
	t.expect(409, "POST", "/work_pools/", doc{"name": w.pool, "type": "kubernetes"})
	t.expect(403, "POST", "/work_pools/", doc{"name": "Prefect-x", "type": "kubernetes"})
	state := doc{"type": "PENDING", "nonsense": 1}
	answer := t.expect(422, "POST", "/flow_runs/"+w.run(0)+"/set_state", doc{"state": state})
	t.equal("message", at(answer, "exception_message"), "Invalid request received.")
}

func apiVersions(t *T) {
	for version, want := range map[string]int{"0.8.4": 200, "9.9.9": 200, "0.7.0": 400, "abc": 400} {
		t.expect(want, "GET", "/admin/version", nil, "X-PREFECT-API-VERSION", version)
	}
}
