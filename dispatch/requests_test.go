package dispatch_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/prefect/prefecttest"
)

// TestSweepOfHealthyRuns: a sweep of many runs costs pages, and nothing for a run that
// is well, PENDING or RUNNING.
func TestSweepOfHealthyRuns(t *testing.T) {
	costs := func(runs int) (toPrefect, toKube int) {
		w := newWorld(t, prefecttest.APILimit(20))
		for i, id := range w.submit(runs) {
			if i%2 == 0 {
				w.force(id, "RUNNING")
			}
		}
		prefectBefore, kubeBefore := len(w.prefect.Requests()), len(w.kube.Requests())
		r := w.sweep()
		if r.Repaired != 0 || r.Observed != runs {
			t.Fatalf("%d observed, %d repaired, %d rows", r.Observed, r.Repaired, len(r.Rows))
		}
		return len(w.prefect.Requests()) - prefectBefore, len(w.kube.Requests()) - kubeBefore
	}
	pFew, kFew := costs(10)
	pMany, kMany := costs(50)
	if pMany-pFew != 2 || kMany-kFew > 0 {
		t.Errorf("40 more runs cost %d requests to Prefect, want two pages, and %d to Kubernetes, want none", pMany-pFew, kMany-kFew)
	}
	t.Logf("a sweep of 50 healthy runs: %d requests to Prefect, %d to Kubernetes", pMany, kMany)
}

// submit makes runs and their Jobs, whose pods have started.
func (w *world) submit(n int) []string {
	w.t.Helper()
	ids := w.runs(n)
	if r := w.pass(); r.Submitted != n {
		w.t.Fatalf("%d of %d submitted", r.Submitted, n)
	}
	for name := range w.kube.Jobs() {
		w.kube.Change("jobs/"+name, func(job doc) { job["status"] = doc{"active": 1.0} })
	}
	return ids
}

// TestFinishedJobsAreNotRead: the Jobs that succeeded are not even listed, and those that
// failed cost no request each.
func TestFinishedJobsAreNotRead(t *testing.T) {
	w := newWorld(t)
	ids := w.submit(20)
	i := 0
	for name := range w.kube.Jobs() {
		end := []string{"Complete", "Failed"}[i%2]
		w.kube.Change("jobs/"+name, endedAt(end, time.Now()))
		if end == "Complete" {
			w.kube.Change("jobs/"+name, func(job doc) { job["status"].(doc)["succeeded"] = 1.0 })
		}
		i++
	}
	for _, id := range ids {
		w.force(id, "RUNNING", "COMPLETED")
	}
	w.kube.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/apis/batch/v1/jobs" && r.URL.Query().Get("fieldSelector") == "" {
			t.Error("Jobs that succeeded are listed")
		}
		return false
	})
	before := len(w.kube.Requests())
	if r := w.sweep(); r.Observed != 0 || len(r.Rows) != 0 {
		t.Errorf("%+v", r)
	}
	if n := len(w.kube.Requests()) - before; n > 2 {
		t.Errorf("%d requests", n)
	}
}

// TestEndedAMomentAgo: runs that have just ended, and whose Jobs are about to, are not
// read one by one.
func TestEndedAMomentAgo(t *testing.T) {
	const runs = 30
	w := newWorld(t, prefecttest.APILimit(20))
	for _, id := range w.submit(runs) {
		w.force(id, "RUNNING", "COMPLETED")
	}
	before, kubeBefore := len(w.prefect.Requests()), len(w.kube.Requests())
	if r := w.sweepIn(5*time.Second, pool); r.Repaired != 0 || r.Failed != 0 {
		t.Errorf("%+v", r)
	}
	if p, k := len(w.prefect.Requests())-before, len(w.kube.Requests())-kubeBefore; p > 8 || k > 3 {
		t.Errorf("%d requests to Prefect, %d to Kubernetes", p, k)
	}
}

// TestExpiredPages: a list of Jobs whose pages expire is read anew, and no Job counts
// for two.
func TestExpiredPages(t *testing.T) {
	const jobs = 3
	w := newWorld(t)
	ids := w.submit(jobs)
	for _, id := range ids {
		w.force(id, "RUNNING", "FAILED")
	}
	lists := 0
	w.kube.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.URL.Path != "/apis/batch/v1/jobs" {
			return false
		}
		query := r.URL.Query()
		query.Set("limit", "1")
		r.URL.RawQuery = query.Encode()
		if lists++; lists == 2 {
			w.kube.ExpireLists()
		}
		return false
	})
	if r := w.sweep(); r.Repaired != jobs || len(r.Rows) != jobs || len(w.kube.Jobs()) != 0 || lists <= jobs {
		t.Errorf("%+v after %d pages, %d Jobs", r, lists, len(w.kube.Jobs()))
	}
}

// TestFairOrderOfASweep: when the time is not enough for all, it is not always the same
// runs that are looked at first.
func TestFairOrderOfASweep(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) { o.Concurrency = 1 }
	ids := map[string]bool{}
	for range 12 {
		id := w.run()
		w.force(id, "RUNNING", "CANCELLING")
		ids[id] = true
	}
	first := map[string]bool{}
	for attempt := 0; attempt < 200 && len(first) < 2; attempt++ {
		before := len(w.prefect.Requests())
		w.look(dispatch.SweepRequest{WorkPools: []string{pool}, DryRun: true})
		for _, r := range w.prefect.Requests()[before:] {
			if id := strings.TrimPrefix(r.Path, "/flow_runs/"); r.Method == http.MethodGet && ids[id] {
				first[id] = true
				break
			}
		}
	}
	if len(first) < 2 {
		t.Error("each sweep looks at the same run first")
	}
}
