package dispatch_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/dispatch"
)

// workersRuns are healthy RUNNING runs of a Python worker, each in a Job of its.
func (w *world) workersRuns(n int) {
	w.t.Helper()
	ids := w.submit(n)
	for name := range w.kube.Jobs() {
		w.kube.Change("jobs/"+name, func(d doc) {
			delete(d["metadata"].(doc), "annotations")
			delete(d["metadata"].(doc)["labels"].(doc), "slipway/work-pool-id")
		})
	}
	for _, id := range ids {
		w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": workersClaim}})
		w.force(id, "RUNNING")
	}
}

// TestWorkersRunsCostLittle: where a Python worker serves the work pool too, each of its
// running runs costs a read of its Job, and no request to Prefect.
func TestWorkersRunsCostLittle(t *testing.T) {
	costs := func(runs int) (toPrefect, toKube int) {
		w := newWorld(t)
		w.workersRuns(runs)
		prefectBefore, kubeBefore := len(w.prefect.Requests()), len(w.kube.Requests())
		r := w.sweep()
		if r.Repaired != 0 || r.Failed != 0 || len(r.Rows) != runs || len(r.Warnings) != 0 {
			t.Errorf("%+v", r)
		}
		for _, row := range r.Rows {
			if row.Action != dispatch.LeaveAlone || !strings.Contains(row.Reason, "somebody else's") {
				t.Errorf("%+v", row)
			}
		}
		return len(w.prefect.Requests()) - prefectBefore, len(w.kube.Requests()) - kubeBefore
	}
	pFew, kFew := costs(5)
	pMany, kMany := costs(25)
	if pMany != pFew || kMany-kFew != 20 {
		t.Errorf("20 more runs cost %d requests to Prefect, want none, and %d to Kubernetes, want one each", pMany-pFew, kMany-kFew)
	}
}

// TestSweepOutOfTime ends as a pass does, which the next one goes on from, and is no fault
// of Slipway's own. What it has done by then is told. The time is doubled until a machine
// is quick enough to come that far in it.
func TestSweepOutOfTime(t *testing.T) {
	for budget := 100 * time.Millisecond; budget < time.Minute; budget *= 2 {
		w := newWorld(t)
		repaired, job := w.submitted()
		hangs, itsJob := w.submitted()
		w.force(repaired, "RUNNING")
		w.force(hangs, "RUNNING")
		for _, failed := range []string{job, itsJob} {
			w.kube.Change(failed, endedAt("Failed", time.Now()))
		}
		w.podsOf(map[string][]any{job: {w.recordedPod("oom", job[strings.LastIndex(job, "/")+1:])}})
		var hung atomic.Bool
		w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/flow_runs/"+hangs) {
				return false
			}
			hung.Store(true)
			<-r.Context().Done()
			return true
		})
		w.change = func(o *dispatch.Options) {
			o.PodEvents, o.PassTime = true, budget
			o.Now = func() time.Time { return w.now().Add(time.Hour) }
		}
		reports, err := w.dispatcher().Sweep(t.Context(), dispatch.SweepRequest{WorkPools: []string{pool}})
		w.onPrefect(nil)
		if !hung.Load() || w.state(repaired).StateType != "CRASHED" {
			continue
		}
		r := reports[0]
		if dispatch.KindOf(err) != dispatch.Unavailable || !strings.Contains(r.Error, "SLIPWAY_PASS_TIME") || !row(r, repaired).Done || row(r, hangs).Done {
			t.Errorf("kind %v: %v; %+v", dispatch.KindOf(err), err, r)
		}
		if w.state(hangs).StateType != "RUNNING" || w.linesOf(repaired, "its Job failed") != 1 || len(w.prefect.Events()) != 1 {
			t.Errorf("the other run is %s, %d lines and %d events tell of the repair", w.state(hangs).StateType, w.linesOf(repaired, "its Job failed"), len(w.prefect.Events()))
		}
		return
	}
	t.Error("the sweep never came that far")
}

// TestInterruptedSweep: a caller that goes away is no fault either.
func TestInterruptedSweep(t *testing.T) {
	w := newWorld(t)
	id := repairs[dispatch.Crash](w)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/flow_runs/"+id) {
			cancel()
		}
		return false
	})
	w.change = func(o *dispatch.Options) { o.Now = func() time.Time { return w.now().Add(time.Hour) } }
	reports, err := w.dispatcher().Sweep(ctx, dispatch.SweepRequest{WorkPools: []string{pool}})
	if dispatch.KindOf(err) != dispatch.Interrupted || reports[0].Error == "" {
		t.Errorf("%v: %+v", err, reports)
	}
}
