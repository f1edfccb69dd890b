package prefecttest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// filterRuns knows the filters id.any_, deployment_id.any_, state.type.any_ and
// state.name.any_ (both, or either), next_scheduled_start_time.after_ and before_,
// work_pools.name.any_, and work_pool_queues.id.any_.
func (s *Server) filterRuns(_ *http.Request, body Doc) (int, any, *fault) {
	byRun, _ := body["flow_runs"].(Doc)
	byState, _ := byRun["state"].(Doc)
	byDue, _ := byRun["next_scheduled_start_time"].(Doc)
	byPool, _ := body["work_pools"].(Doc)
	byQueue, _ := body["work_pool_queues"].(Doc)
	return s.page(s.runs, body, "ID_DESC", func(run Doc) bool {
		return anyOf(byRun["id"], run["id"]) && anyOf(byRun["deployment_id"], run["deployment_id"]) && s.inState(byState, run) &&
			s.dueWithin(byDue, run) && anyOf(byQueue["id"], run["work_queue_id"]) && anyOf(byPool["name"], run["work_pool_name"])
	})
}

func (s *Server) inState(by, run Doc) bool {
	ofType, ofName := anyOf(by["type"], run["state_type"]), anyOf(by["name"], run["state_name"])
	if by["operator"] == "or_" && s.has("filters with or") {
		return ofType || ofName
	}
	return ofType && ofName
}

// dueWithin: both bounds are inclusive, and a run without a next start time passes
// neither.
func (s *Server) dueWithin(by, run Doc) bool {
	due := stampOf(run["next_scheduled_start_time"])
	after, before := stampOf(by["after_"]), stampOf(by["before_"])
	tooEarly := after != "" && (due == "" || due < after) && s.has("runs due after")
	tooLate := before != "" && (due == "" || due > before) && s.has("runs due before")
	return !tooEarly && !tooLate
}

// anyOf tells whether a filter {"any_": [...]}, absent or not, lets a value pass.
func anyOf(filter, value any) bool {
	f, _ := filter.(Doc)
	list, given := f["any_"].([]any)
	return !given || slices.Contains(list, value)
}

// limitOf reads the limit of a request, or says why it is refused.
func (s *Server) limitOf(body Doc, rule string) (int, *fault) {
	limit := s.limit
	if v, ok := body["limit"].(float64); ok {
		limit = int(v)
	}
	if s.has(rule) && limit > s.limit {
		return 0, &fault{http.StatusUnprocessableEntity, Doc{"detail": fmt.Sprintf("Invalid limit: must be less than or equal to %d.", s.limit)}}
	}
	return limit, nil
}

// page answers the documents that are kept, by sort, offset and limit.
func (s *Server) page(docs []Doc, body Doc, sort string, keep func(Doc) bool) (int, any, *fault) {
	limit, f := s.limitOf(body, "list limit")
	if f != nil {
		return 0, nil, f
	}
	if text, ok := body["sort"].(string); ok {
		sort = text
	}
	found := []Doc{}
	for _, d := range docs {
		if keep(d) {
			found = append(found, d)
		}
	}
	s.sort(found, sort)
	if s.has("list offset") {
		found = found[min(len(found), int(number(body["offset"]))):]
	}
	return http.StatusOK, found[:min(len(found), limit)], nil
}

// sort orders documents as "ID_DESC", "NAME_ASC" and their like ask for; "" leaves
// them as they are.
func (s *Server) sort(docs []Doc, order string) {
	key, descending := strings.CutSuffix(order, "_DESC")
	key = strings.ToLower(strings.TrimSuffix(key, "_ASC"))
	if key == "" || !s.has("lists in order") {
		return
	}
	value := func(d Doc) string {
		if key == "timestamp" {
			return stampOf(d[key])
		}
		text, _ := d[key].(string)
		return text
	}
	if descending {
		slices.Reverse(docs) // of two at the same time, the later one comes first
	}
	slices.SortStableFunc(docs, func(a, b Doc) int {
		if descending {
			a, b = b, a
		}
		return cmp.Compare(value(a), value(b))
	})
}
