package prefecttest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
)

// poll is get_scheduled_flow_runs: the one place where pauses and the limits of
// pool and queues are applied.
func (s *Server) poll(r *http.Request, body Doc) (int, any, *fault) {
	pool, f := s.pool(r)
	if f != nil {
		return 0, nil, f
	}
	limit, f := s.limitOf(body, "poll limit")
	if f != nil {
		return 0, nil, f
	}
	queues := s.queuesOf(pool)
	if names, _ := body["work_queue_names"].([]any); len(names) > 0 {
		for _, name := range names {
			if text, _ := name.(string); s.has("unknown queue") && s.queue(pool, text) == nil {
				return 0, nil, missing(fmt.Sprintf("Work pool queue '%v/%v' not found.", pool["name"], name))
			}
		}
		queues = slices.DeleteFunc(queues, func(q Doc) bool { return !slices.Contains(names, q["name"]) })
	}
	if s.has("pool pause") && pool["is_paused"] == true {
		return http.StatusOK, []Doc{}, nil
	}
	if s.has("pool limit") && pool["concurrency_limit"] != nil {
		limit = min(limit, s.room(pool, "work_pool_id"))
	}
	return http.StatusOK, s.due(pool, queues, body, limit), nil
}

// due lists up to limit runs of the queues given.
func (s *Server) due(pool Doc, queues []Doc, body Doc, limit int) []Doc {
	items := []Doc{}
	if !s.has("queue priority") {
		slices.Reverse(queues)
	}
	for _, q := range queues {
		q["last_polled"], q["status"] = s.time(), "READY"
		if s.has("queue pause") && q["is_paused"] == true {
			continue
		}
		runs := s.dueOf(q, stampOf(body["scheduled_before"]), stampOf(body["scheduled_after"]))
		if s.has("queue limit") && q["concurrency_limit"] != nil {
			runs = runs[:min(len(runs), s.room(q, "work_queue_id"))]
		}
		for _, run := range runs {
			if len(items) >= limit {
				return items
			}
			polled := over(Doc{}, run)
			polled["state"], polled["work_queue_name"] = nil, nil
			delete(polled, "work_pool_name")
			items = append(items, Doc{"work_pool_id": pool["id"], "work_queue_id": q["id"], "flow_run": polled})
		}
	}
	return items
}

// dueOf lists the scheduled runs of a queue by start time; bounds are inclusive.
func (s *Server) dueOf(q Doc, before, after string) []Doc {
	var runs []Doc
	for _, run := range s.runs {
		at, _ := run["next_scheduled_start_time"].(string)
		if run["work_queue_id"] != q["id"] || run["state_type"] != "SCHEDULED" || at == "" {
			continue
		}
		if policy, _ := run["empirical_policy"].(Doc); policy["retry_type"] == "in_process" && s.has("retries of an engine are not polled") {
			continue
		}
		if before != "" && at > before && s.has("scheduled_before") || after != "" && at < after && s.has("scheduled_after") {
			continue
		}
		runs = append(runs, run)
	}
	if s.has("start time order") {
		slices.SortStableFunc(runs, func(a, b Doc) int {
			return cmp.Compare(a["next_scheduled_start_time"].(string), b["next_scheduled_start_time"].(string))
		})
	}
	return runs
}

// room is how many more runs may be active below the limit of a pool or queue.
func (s *Server) room(owner Doc, key string) int {
	active := 0
	for _, run := range s.runs {
		if run[key] == owner["id"] && slices.Contains([]any{"PENDING", "RUNNING", "CANCELLING"}, run["state_type"]) {
			active++
		}
	}
	return max(0, int(number(owner["concurrency_limit"]))-active)
}
