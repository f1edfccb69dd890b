package dispatch_test

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/dispatch"
)

// isEffect tells whether a request is one by which a sweep acts.
func isEffect(r *http.Request) bool {
	switch {
	case r.Method == http.MethodPatch, r.Method == http.MethodDelete, strings.HasSuffix(r.URL.Path, "/set_state"):
		return true
	}
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/jobs")
}

// TestLostRace: a sweep that meets another's repair, at its second look or at the repair
// itself, has failed at nothing.
func TestLostRace(t *testing.T) {
	for action, prepare := range repairs {
		for when, is := range map[string]func(r *http.Request, id string, reads int) bool{
			"the second look": func(r *http.Request, id string, reads int) bool {
				return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/flow_runs/"+id) && reads > 1
			},
			"the repair": func(r *http.Request, _ string, _ int) bool { return isEffect(r) },
		} {
			t.Run(string(action)+", at "+when, func(t *testing.T) {
				w := newWorld(t)
				id := prepare(w)
				var reads atomic.Int64
				var once atomic.Bool
				var first dispatch.SweepReport
				other := func(_ http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/flow_runs/"+id) {
						reads.Add(1)
					}
					if is(r, id, int(reads.Load())) && !once.Swap(true) {
						first = w.look(dispatch.SweepRequest{WorkPools: []string{pool}})
					}
					return false
				}
				w.onPrefect(other)
				w.kube.Intercept(other)
				second := w.look(dispatch.SweepRequest{WorkPools: []string{pool}})
				if first.Repaired != 1 || first.Failed != 0 || second.Failed != 0 || len(second.Warnings) != 0 {
					t.Errorf("first %+v\nsecond %+v", first, second)
				}
				if w.jobsOf(id) > 1 {
					t.Errorf("%d Jobs", w.jobsOf(id))
				}
			})
		}
	}
}

// slowLists makes the lists of a run's earlier Jobs take longer than a page may be old.
func (w *world) slowLists() {
	w.kube.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/jobs") {
			w.wait(6 * time.Second)
		}
		return false
	})
}

// retried is a due run in its second attempt, so that a pass looks for earlier Jobs of it.
func (w *world) retried() string {
	w.t.Helper()
	id := w.prefect.AddRun(w.deployment, time.Now().Add(-2*time.Minute), nil)
	w.force(id, "PENDING", "RUNNING", "FAILED")
	w.dueAgain(id)
	return id
}

func (w *world) dueAgain(id string) {
	w.prefect.Force(id, doc{"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": doc{"scheduled_time": time.Now().Add(-time.Minute).UTC().Format(time.RFC3339Nano)}})
}

// TestReadByItselfInAnotherAttempt: a run that is read just before its claim, and is due
// again by then, is not the one that was prepared: another dispatcher's Job may be at
// work.
func TestReadByItselfInAnotherAttempt(t *testing.T) {
	for name, first := range map[string]bool{"its first attempt": true, "a retried run": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.change = func(o *dispatch.Options) { o.Concurrency = 1 }
			id := w.retried() // its slow lists let the page get old, each time
			if first {
				id = w.run()
			}
			w.slowLists()
			var once atomic.Bool
			w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && r.URL.Path == "/api/flow_runs/"+id && !once.Swap(true) {
					w.kube.Intercept(nil)
					if other := w.pass(func(r *dispatch.Request) { r.FlowRunIDs = []string{id} }); other.Submitted != 1 {
						t.Errorf("the other dispatcher: %+v", other)
					}
					w.force(id, "RUNNING")
					w.dueAgain(id) // by its engine, which was told to end
				}
				return false
			})
			r := w.pass()
			claims := slices.DeleteFunc(w.proposals("PENDING"), func(of string) bool { return of != id })
			if !once.Load() || len(claims) != 1 || w.jobsOf(id) != 1 || w.state(id).StateName != "AwaitingRetry" {
				t.Errorf("%+v: after %d claims the run is %s with %d Jobs", r, len(claims), w.state(id).StateName, w.jobsOf(id))
			}
			w.onPrefect(nil)
			if w.pass(); w.jobsOf(id) != 1 {
				t.Errorf("beside that Job the next pass made another: %d Jobs", w.jobsOf(id))
			}
		})
	}
}

// TestReadByItselfIsLate: that the server calls a run Late meanwhile does not matter.
func TestReadByItselfIsLate(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) { o.Concurrency = 1 }
	w.retried()
	id := w.run()
	w.slowLists()
	var once atomic.Bool
	w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && r.URL.Path == "/api/flow_runs/"+id && !once.Swap(true) {
			at := w.state(id).NextScheduledStartTime.UTC().Format(time.RFC3339Nano)
			w.prefect.Force(id, doc{"type": "SCHEDULED", "name": "Late", "state_details": doc{"scheduled_time": at}})
		}
		return false
	})
	if r := w.pass(); !once.Load() || w.jobsOf(id) != 1 {
		t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
	}
}
