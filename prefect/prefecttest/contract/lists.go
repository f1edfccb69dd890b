package contract

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"slipway/prefect"
)

// filtered lists a collection.
func (t *T) filtered(path string, body doc) []any {
	found, _ := t.expect(200, "POST", path, body).([]any)
	return found
}

// idsOf are the ids of documents.
func idsOf(docs []any) []string {
	var ids []string
	for _, d := range docs {
		id, _ := at(d, "id").(string)
		ids = append(ids, id)
	}
	return ids
}

func runsByDueTime(t *T) {
	w := t.world(nil)
	run, claimed := w.run(time.Hour), w.run(time.Hour)
	w.propose(201, "ACCEPT", claimed, claim(uuid.NewString()))
	due, err := time.Parse(time.RFC3339Nano, at(t.expect(200, "GET", "/flow_runs/"+run, nil), "next_scheduled_start_time").(string))
	if err != nil {
		t.failf("due time: %v", err)
	}
	step := time.Microsecond
	for _, c := range []struct {
		after, before time.Time
		want          []string
	}{
		{due, due, []string{run}},
		{due.Add(-time.Hour), due.Add(time.Hour), []string{run}},
		{due.Add(step), due.Add(time.Hour), nil},
		{due.Add(-time.Hour), due.Add(-step), nil},
	} {
		window := doc{"after_": prefect.Timestamp(c.after), "before_": prefect.Timestamp(c.before)}
		found := t.filtered("/flow_runs/filter", doc{
			"flow_runs":  doc{"next_scheduled_start_time": window},
			"work_pools": doc{"name": doc{"any_": []string{w.pool}}}, "sort": "ID_DESC", "limit": 200, "offset": 0,
		})
		t.equal("runs due", idsOf(found), c.want)
	}
}

func lists(t *T) {
	w := t.world(nil)
	t.expect(201, "POST", "/work_pools/"+w.pool+"/queues", doc{"name": "second"})
	for _, name := range []string{"a", "b"} {
		t.expect(204, "POST", "/work_pools/"+w.pool+"/workers/heartbeat", doc{"name": name, "heartbeat_interval_seconds": 30})
	}
	w.run(time.Hour)
	w.run(time.Hour)
	byPool := doc{"name": doc{"any_": []string{w.pool}}}
	for path, filter := range map[string]doc{
		"/flow_runs/filter":                         {"work_pools": byPool, "sort": "ID_DESC"},
		"/work_pools/" + w.pool + "/queues/filter":  {},
		"/work_pools/" + w.pool + "/workers/filter": {},
	} {
		var seen []string
		for offset := range 3 {
			filter["limit"], filter["offset"] = 1, offset
			seen = append(seen, idsOf(t.filtered(path, filter))...)
		}
		slices.Sort(seen)
		t.equal("objects of "+path, len(slices.Compact(seen)), 2)
	}
	for _, path := range []string{"/flow_runs/filter", "/deployments/filter", "/flows/filter", "/logs/filter", "/work_pools/" + w.pool + "/queues/filter", "/work_pools/" + w.pool + "/workers/filter"} {
		answer := t.expect(422, "POST", path, doc{"limit": 201})
		t.equal("detail", at(answer, "detail"), "Invalid limit: must be less than or equal to 200.")
	}
}

func ordered(t *T) {
	w := t.world(nil)
	for range 4 {
		w.run(time.Hour)
	}
	flow := at(t.expect(200, "GET", "/deployments/"+w.deployment, nil), "flow_id")
	newest := at(t.expect(201, "POST", "/deployments/", doc{"name": "a", "flow_id": flow, "work_pool_name": w.pool}), "id").(string)
	byPool := doc{"name": doc{"any_": []string{w.pool}}}
	ids := idsOf(t.filtered("/flow_runs/filter", doc{"work_pools": byPool, "sort": "ID_DESC"}))
	t.equal("number of runs", len(ids), 4)
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	slices.Reverse(sorted)
	t.equal("order of runs", ids, sorted)
	t.equal("deployments, the newest first", idsOf(t.filtered("/deployments/filter", doc{"work_pools": byPool, "sort": "CREATED_DESC"})), []string{newest, w.deployment})
}
