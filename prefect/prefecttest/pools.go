package prefecttest

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

func find(docs []Doc, key string, value any) Doc {
	for _, d := range docs {
		if d[key] == value {
			return d
		}
	}
	return nil
}

// over lays given values over a new document's own.
func over(base, given Doc) Doc {
	for k, v := range given {
		base[k] = v
	}
	return base
}

func (s *Server) fresh() Doc {
	return Doc{"id": uuid.NewString(), "created": s.time(), "updated": s.time()}
}

func (s *Server) createPool(_ *http.Request, body Doc) (int, any, *fault) {
	name, _ := body["name"].(string)
	if s.has("reserved pool name") && strings.HasPrefix(strings.ToLower(name), "prefect") {
		return 0, nil, &fault{http.StatusForbidden, Doc{"detail": "Work pools starting with 'Prefect' are reserved for internal use."}}
	}
	if s.has("unique pool name") && find(s.pools, "name", name) != nil {
		return 0, nil, &fault{http.StatusConflict, Doc{"detail": "A work pool with this name already exists."}}
	}
	return http.StatusCreated, s.newPool(body), nil
}

func (s *Server) newPool(body Doc) Doc {
	pool := over(over(s.fresh(), Doc{
		"description": nil, "type": "kubernetes", "base_job_template": Doc{}, "is_paused": false, "concurrency_limit": nil, "status": "NOT_READY",
		"storage_configuration": Doc{"bundle_upload_step": nil, "bundle_execution_step": nil, "default_result_storage_block_id": nil},
	}), body)
	s.pools = append(s.pools, pool)
	pool["default_queue_id"] = s.newQueue(pool, Doc{"name": "default"})["id"]
	return pool
}

func (s *Server) pool(r *http.Request) (Doc, *fault) {
	name := r.PathValue("name")
	if pool := find(s.pools, "name", name); pool != nil {
		return pool, nil
	}
	return nil, missing(fmt.Sprintf(`Work pool "%s" not found.`, name))
}

func (s *Server) readPool(r *http.Request, _ Doc) (int, any, *fault) {
	pool, f := s.pool(r)
	return http.StatusOK, pool, f
}

func (s *Server) patchPool(r *http.Request, body Doc) (int, any, *fault) {
	pool, f := s.pool(r)
	if f != nil {
		return 0, nil, f
	}
	over(pool, body)
	if pool["is_paused"] == true {
		pool["status"] = "PAUSED"
	}
	return http.StatusNoContent, nil, nil
}

func (s *Server) newQueue(pool, body Doc) Doc {
	priority := 1.0
	for _, q := range s.queues {
		if q["work_pool_id"] == pool["id"] {
			priority = max(priority, number(q["priority"])+1)
		}
	}
	queue := over(over(s.fresh(), Doc{
		"description": "", "is_paused": false, "concurrency_limit": nil, "priority": priority, "last_polled": nil, "status": "NOT_READY",
		"work_pool_id": pool["id"], "work_pool_name": pool["name"],
	}), body)
	s.queues = append(s.queues, queue)
	return queue
}

func (s *Server) createQueue(r *http.Request, body Doc) (int, any, *fault) {
	pool, f := s.pool(r)
	if f != nil {
		return 0, nil, f
	}
	return http.StatusCreated, s.newQueue(pool, body), nil
}

func (s *Server) queue(pool Doc, name string) Doc {
	for _, q := range s.queues {
		if q["work_pool_id"] == pool["id"] && q["name"] == name {
			return q
		}
	}
	return nil
}

func (s *Server) patchQueue(r *http.Request, body Doc) (int, any, *fault) {
	pool, f := s.pool(r)
	if f != nil {
		return 0, nil, f
	}
	queue := s.queue(pool, r.PathValue("queue"))
	if queue == nil {
		return 0, nil, missing(fmt.Sprintf("Work pool queue '%v/%s' not found.", pool["name"], r.PathValue("queue")))
	}
	over(queue, body)
	return http.StatusNoContent, nil, nil
}

func (s *Server) filterQueues(r *http.Request, body Doc) (int, any, *fault) {
	pool, f := s.pool(r)
	if f != nil {
		return 0, nil, f
	}
	return s.page(s.queuesOf(pool), body, "", all)
}

func all(Doc) bool { return true }

// queuesOf lists a pool's queues by priority.
func (s *Server) queuesOf(pool Doc) []Doc {
	queues := []Doc{}
	for _, q := range s.queues {
		if q["work_pool_id"] == pool["id"] {
			queues = append(queues, q)
		}
	}
	slices.SortStableFunc(queues, func(a, b Doc) int { return cmp.Compare(number(a["priority"]), number(b["priority"])) })
	return queues
}

func (s *Server) heartbeat(r *http.Request, body Doc) (int, any, *fault) {
	pool, f := s.pool(r)
	if f != nil {
		return 0, nil, f
	}
	every := number(body["heartbeat_interval_seconds"])
	if s.has("whole heartbeat interval") && every != float64(int(every)) {
		return 0, nil, invalid("int_from_float", "Input should be a valid integer, got a number with a fractional part", "body", "heartbeat_interval_seconds")
	}
	s.workers[fmt.Sprintf("%v/%v", pool["name"], body["name"])] = over(over(s.fresh(), body), Doc{
		"work_pool_id": pool["id"], "last_heartbeat_time": s.time(), "status": "ONLINE",
	})
	if s.has("heartbeat makes the pool ready") && pool["status"] == "NOT_READY" {
		pool["status"] = "READY"
	}
	return http.StatusNoContent, nil, nil
}

func (s *Server) filterWorkers(r *http.Request, body Doc) (int, any, *fault) {
	pool, f := s.pool(r)
	if f != nil {
		return 0, nil, f
	}
	found := []Doc{}
	for _, key := range slices.Sorted(maps.Keys(s.workers)) {
		if worker := s.workers[key]; worker["work_pool_id"] == pool["id"] {
			found = append(found, worker)
		}
	}
	return s.page(found, body, "LAST_HEARTBEAT_TIME_DESC", all)
}

// number reads a JSON number, or a Go one of a seed; 0 for null.
func number(v any) float64 {
	switch n := v.(type) {
	case float64:
		return n
	case int:
		return float64(n)
	}
	return 0
}
