package contract

import (
	"time"

	"github.com/google/uuid"

	"slipway/prefect"
)

// engineRetry: a flow with retries that fails is SCHEDULED again, for its own
// process and nobody else.
func engineRetry(t *T) {
	w := t.world(nil)
	run := w.run(-time.Minute)
	t.expect(204, "PATCH", "/flow_runs/"+run, doc{"empirical_policy": doc{"retries": 1, "retry_delay": 0}})
	w.propose(201, "ACCEPT", run, claim(uuid.NewString()))
	w.propose(201, "ACCEPT", run, doc{"type": "RUNNING"})
	answer := w.propose(201, "REJECT", run, doc{"type": "FAILED"})
	t.equal("state", at(answer, "state", "name"), "AwaitingRetry")
	got := t.expect(200, "GET", "/flow_runs/"+run, nil)
	t.equal("retry type", at(got, "empirical_policy", "retry_type"), "in_process")
	t.equal("polled runs", len(w.poll(doc{"scheduled_before": prefect.Timestamp(time.Now().Add(time.Hour))})), 0)
	w.propose(201, "ACCEPT", run, doc{"type": "CRASHED"})
}

func runsByState(t *T) {
	w := t.world(nil)
	scheduled, retry, pending := w.run(-time.Minute), w.run(-time.Minute), w.run(-time.Minute)
	w.propose(201, "ACCEPT", pending, claim(nil))
	w.propose(201, "ACCEPT", retry, claim(nil))
	w.propose(201, "ACCEPT", retry, doc{"type": "SCHEDULED", "name": "AwaitingRetry"})
	found, _ := t.expect(200, "POST", "/flow_runs/filter", doc{
		"flow_runs": doc{"state": doc{
			"operator": "or_", "type": doc{"any_": []string{"PENDING", "RUNNING"}}, "name": doc{"any_": []string{"AwaitingRetry"}},
		}},
		"work_pools": doc{"name": doc{"any_": []string{w.pool}}}, "sort": "ID_DESC", "limit": 200,
	}).([]any)
	got := map[any]bool{}
	for _, run := range found {
		got[at(run, "id")] = true
	}
	t.equal("runs found", got, map[any]bool{retry: true, pending: true})
	t.equal("scheduled run found", got[scheduled], false)
	queue := at(t.expect(200, "GET", "/flow_runs/"+pending, nil), "work_queue_id")
	held, _ := t.expect(200, "POST", "/flow_runs/filter", doc{
		"flow_runs":        doc{"state": doc{"type": doc{"any_": []string{"PENDING"}}}, "deployment_id": doc{"any_": []string{w.deployment}}},
		"work_pool_queues": doc{"id": doc{"any_": []any{queue}}}, "sort": "ID_DESC", "limit": 200,
	}).([]any)
	t.equal("runs that hold slots of a queue", len(held), 1)
}

func deploymentsByPool(t *T) {
	w, other := t.world(nil), t.world(nil)
	found, _ := t.expect(200, "POST", "/deployments/filter", doc{
		"work_pools": doc{"name": doc{"any_": []string{w.pool}}}, "sort": "CREATED_DESC", "limit": 200, "offset": 0,
	}).([]any)
	t.equal("number of deployments", len(found), 1)
	t.equal("deployment", at(found[0], "id"), w.deployment)
	t.equal("work pool", at(found[0], "work_pool_name"), w.pool)
	t.equal("another's", at(found[0], "id") == other.deployment, false)
}

func newestLines(t *T) {
	run := uuid.NewString()
	line := func(message string, ago time.Duration) doc {
		return doc{"name": "n", "level": 20, "message": message, "timestamp": prefect.Timestamp(time.Now().Add(-ago)), "flow_run_id": run}
	}
	t.expect(201, "POST", "/logs/", []doc{line("second", 2*time.Second), line("third", time.Second), line("first", time.Minute)})
	body := doc{"logs": doc{"flow_run_id": doc{"any_": []string{run}}}, "sort": "TIMESTAMP_DESC", "limit": 200}
	lines, _ := t.expect(200, "POST", "/logs/filter", body).([]any)
	var got []any
	for _, l := range lines {
		got = append(got, at(l, "message"))
	}
	t.equal("lines", got, []any{"third", "second", "first"})
}

// oneEvent: the server stores events behind its answer, and one of each id.
func oneEvent(t *T) {
	resource := "contract." + uuid.NewString()
	first, last := uuid.NewString(), uuid.NewString()
	for _, id := range []string{first, first, last} {
		t.expect(204, "POST", "/events", []doc{{"id": id, "occurred": prefect.Timestamp(time.Now()), "event": "contract", "resource": doc{"prefect.resource.id": resource}, "related": []doc{}, "payload": doc{}}})
	}
	filter := doc{"occurred": doc{"since": prefect.Timestamp(time.Now().Add(-time.Hour))}, "resource": doc{"id": []string{resource}}}
	var events []any
	for deadline := time.Now().Add(30 * time.Second); len(events) < 2 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		events, _ = at(t.expect(200, "POST", "/events/filter", doc{"filter": filter, "limit": 50}), "events").([]any)
	}
	got := map[any]int{}
	for _, e := range events {
		got[at(e, "id")]++
	}
	t.equal("events", got, map[any]int{first: 1, last: 1})
}
