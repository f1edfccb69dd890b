package dispatch_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
)

// proxys404s are answers of what stands before a Prefect server whose route is away.
var proxys404s = map[string]string{"a page": "default backend - 404", "no body": "", "a router's": `{"detail":"Not Found"}`, "another's JSON": `{"message":"no route"}`}

// answer404 answers requests of a method whose path holds a text as a proxy does.
func (w *world) answer404(method, path, body string) {
	w.onPrefect(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.Contains(r.URL.Path, path) {
			return false
		}
		rw.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(rw, body)
		return true
	})
}

// TestProxys404DeletesNothing: only the server's own words say that a flow run is deleted.
// The Job of a healthy run stays.
func TestProxys404DeletesNothing(t *testing.T) {
	for name, body := range proxys404s {
		for state, prepare := range map[string]func(w *world, id string){
			"PAUSED":     func(w *world, id string) { w.force(id, "PAUSED") },
			"SCHEDULED":  (*world).retry,
			"CANCELLING": func(w *world, id string) { w.force(id, "CANCELLING") },
		} {
			t.Run(name+", "+state, func(t *testing.T) {
				w := newWorld(t)
				id, _ := w.submitted()
				w.force(id, "RUNNING")
				prepare(w, id)
				w.answer404(http.MethodGet, "/flow_runs/"+id, body)
				r := w.sweep()
				w.onPrefect(nil)
				if r.Repaired != 0 || w.jobsOf(id) != 1 || w.state(id).StateType != state || len(r.Warnings) == 0 {
					t.Errorf("%+v: the run is %s with %d Jobs", r, w.state(id).StateType, w.jobsOf(id))
				}
			})
		}
	}
}

// TestProxys404OfADeployment: it cancels no run, neither one that is due nor one whose
// Job was never made.
func TestProxys404OfADeployment(t *testing.T) {
	for name, body := range proxys404s {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			orphan := w.orphan()
			due := w.run()
			w.onPrefect(func(rw http.ResponseWriter, r *http.Request) bool {
				switch {
				case strings.HasSuffix(r.URL.Path, "/deployments/filter"):
					_, _ = io.WriteString(rw, "[]")
				case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/deployments/"):
					rw.WriteHeader(http.StatusNotFound)
					_, _ = io.WriteString(rw, body)
				default:
					return false
				}
				return true
			})
			if line := only(w.pass(), t); line.Outcome != dispatch.Failed || w.state(due).StateType != "SCHEDULED" {
				t.Errorf("%+v: the run is %s", line, w.state(due).StateType)
			}
			if r := w.sweep(); w.state(orphan).StateType != "PENDING" {
				t.Errorf("%+v: the orphan is %s", r, w.state(orphan).StateType)
			}
			w.onPrefect(nil)
			w.pass()
			if w.sweep(); w.jobsOf(due) != 1 || w.jobsOf(orphan) != 1 {
				t.Errorf("once the route is back: %d Jobs, and %d of the orphan", w.jobsOf(due), w.jobsOf(orphan))
			}
		})
	}
}

// TestProxys404OfAClaim: the run is still SCHEDULED, and the next pass claims it.
func TestProxys404OfAClaim(t *testing.T) {
	for name, body := range proxys404s {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := w.run()
			w.answer404(http.MethodPost, id+"/set_state", body)
			if line := only(w.pass(), t); line.Outcome != dispatch.Failed || w.state(id).StateType != "SCHEDULED" {
				t.Errorf("%+v: the run is %s", line, w.state(id).StateType)
			}
			w.onPrefect(nil)
			if w.pass(); w.jobsOf(id) != 1 {
				t.Errorf("once the route is back: %d Jobs", w.jobsOf(id))
			}
		})
	}
}

// TestProxys404OfAWorkPool is a server that does not answer, and not a wrong name in the
// settings.
func TestProxys404OfAWorkPool(t *testing.T) {
	w := newWorld(t)
	w.answer404(http.MethodGet, "/work_pools/", proxys404s["a page"])
	if _, err := w.tryPass(t.Context()); dispatch.KindOf(err) != dispatch.Unavailable || strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
}

// TestDeletionIsTold: with the server's own words a run is deleted, also while it is
// claimed.
func TestDeletionIsTold(t *testing.T) {
	w := newWorld(t)
	id := w.prefect.AddRun(w.deployment, time.Now().Add(-time.Second), nil)
	w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
		if proposes(r, "PENDING") {
			w.onPrefect(nil)
			w.deleteRun(id)
		}
		return false
	})
	if line := only(w.pass(), t); line.Outcome != dispatch.Skipped || !strings.Contains(line.Reason, "deleted") || len(w.kube.Jobs()) != 0 {
		t.Errorf("%+v, %d Jobs", line, len(w.kube.Jobs()))
	}
}
