package dispatch_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/kube/kubetest"
)

// answerIn answers what is asked of a namespace, and refuses lists of the whole cluster,
// as the Roles of a namespaced installation do.
func (w *world) answerIn(namespace string, code int, reason, message string) {
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/namespaces/"+namespace+"/") && r.URL.Path != "/apis/batch/v1/jobs" {
			return false
		}
		kubetest.Refuse(rw, code, reason, message, nil)
		return true
	})
}

// withoutRights takes the rights in a namespace away.
func (w *world) withoutRights(namespace string) {
	w.answerIn(namespace, http.StatusForbidden, "Forbidden", fmt.Sprintf(`jobs.batch is forbidden: User "slipway" cannot get resource "jobs" in API group "batch" in the namespace %q`, namespace))
}

// unreadablePID is one that another dispatcher or worker has written, elsewhere.
const unreadablePID = "old-workers:amber-fox-x7k2p"

// elsewhere prepare runs whose infrastructure_pid names a namespace without rights.
var elsewhere = map[string]struct {
	prepare func(w *world) string
	want    string
	jobs    int
}{
	"an orphan": {(*world).orphan, "PENDING", 1},
	"RUNNING, its Job failed": {func(w *world) string {
		id, job := w.submitted()
		w.force(id, "RUNNING")
		w.kube.Change(job, endedAt("Failed", time.Now()))
		return id
	}, "CRASHED", 1},
	"RUNNING, its Job is gone": {func(w *world) string {
		id, job := w.submitted()
		w.force(id, "RUNNING")
		w.kube.Remove(job)
		return id
	}, "CRASHED", 0},
	"RUNNING, its Job is live": {func(w *world) string {
		id, _ := w.submitted()
		w.force(id, "RUNNING")
		return id
	}, "RUNNING", 1},
	"CANCELLING": {func(w *world) string {
		id, _ := w.submitted()
		w.force(id, "RUNNING", "CANCELLING")
		return id
	}, "CANCELLED", 0},
}

// TestPIDThatMayNotBeRead keeps nothing from being repaired: no Job of Slipway's can be
// there.
func TestPIDThatMayNotBeRead(t *testing.T) {
	for name, c := range elsewhere {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := c.prepare(w)
			w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": unreadablePID})
			w.withoutRights("old-workers")
			for range 2 {
				w.sweep()
			}
			if run := w.state(id); run.StateType != c.want || w.jobsOf(id) != c.jobs {
				t.Errorf("the run is %s with %d Jobs, want %s with %d", run.StateType, w.jobsOf(id), c.want, c.jobs)
			}
		})
	}
}

// TestPIDThatCannotBeReadNow: an answer that may change by itself, and the refusals of a server
// that is not ready, prove nothing: the run is left until they are over.
func TestPIDThatCannotBeReadNow(t *testing.T) {
	for fault, begin := range map[string]func(w *world){
		"HTTP 503": func(w *world) {
			w.answerIn("old-workers", http.StatusServiceUnavailable, "ServiceUnavailable", "apiserver is shutting down")
		},
		"a server that starts": func(w *world) {
			w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				switch {
				case r.URL.Path == "/readyz":
					rw.WriteHeader(http.StatusInternalServerError)
				case strings.Contains(r.URL.Path, "/namespaces/old-workers/"):
					kubetest.Refuse(rw, http.StatusForbidden, "Forbidden", `jobs.batch is forbidden: User "slipway" cannot get resource "jobs"`, nil)
				default:
					return false
				}
				return true
			})
		},
	} {
		for name, c := range elsewhere {
			t.Run(fault+", "+name, func(t *testing.T) {
				w := newWorld(t)
				id := c.prepare(w)
				before, jobs := w.state(id).StateType, w.jobsOf(id)
				w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": unreadablePID})
				begin(w)
				if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != before || w.jobsOf(id) != jobs {
					t.Errorf("%+v: the run is %s with %d Jobs", r, w.state(id).StateType, w.jobsOf(id))
				}
				w.kube.Intercept(nil)
				for range 2 {
					w.sweep()
				}
				if run := w.state(id); run.StateType != c.want || w.jobsOf(id) != c.jobs {
					t.Errorf("afterwards the run is %s with %d Jobs", run.StateType, w.jobsOf(id))
				}
			})
		}
	}
}

// TestOrphanInALostNamespace: a claim for a namespace whose rights are gone is told of,
// once, and its run is CRASHED when that has lasted for as long as the limit. Rights that
// come back before make its Job.
func TestOrphanInALostNamespace(t *testing.T) {
	for name, c := range map[string]struct {
		limits map[string]time.Duration
		limit  time.Duration
	}{
		"a quarter of an hour": {nil, 15 * time.Minute},
		"the limit given":      {map[string]time.Duration{"JobNotCreated": 5 * time.Minute}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, saved := w.orphan(), w.orphanBeside()
			w.change = func(o *dispatch.Options) { o.StartLimits = c.limits }
			const first = 2 * time.Minute
			for _, after := range []time.Duration{first, first + c.limit - time.Minute} {
				w.withoutRights("dev")
				if r := w.sweepIn(after, pool); r.Repaired != 0 || w.state(id).StateType != "PENDING" || row(r, id).Action != dispatch.CreateJob || !strings.Contains(row(r, id).Outcome, "cannot get resource") {
					t.Errorf("after %s: %+v, the run is %s", after, r, w.state(id).StateType)
				}
			}
			if n := w.linesOf(id, "is still not created: JobNotCreated: "); n != 1 {
				t.Errorf("%d lines tell why there is no Job", n)
			}
			w.answerOnly(saved)
			w.sweepIn(first+c.limit+time.Minute, pool)
			if run := w.state(id); run.StateType != "CRASHED" || !strings.Contains(run.State.Message, "cannot get resource") || w.jobsOf(id) != 0 {
				t.Errorf("in the end the run is %s with %d Jobs: %s", run.StateType, w.jobsOf(id), run.State.Message)
			}
			if w.jobsOf(saved) != 1 || w.state(saved).StateType != "PENDING" {
				t.Errorf("the one whose rights are back is %s with %d Jobs", w.state(saved).StateType, w.jobsOf(saved))
			}
		})
	}
}

// answerOnly refuses the rights to Jobs of the namespace dev but for those of one run.
func (w *world) answerOnly(id string) {
	transition := w.state(id).State.Message
	own := strings.TrimSuffix(transition[strings.LastIndex(transition, "/")+1:], ".")
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/namespaces/dev/") || strings.Contains(r.URL.Path, own) || strings.Contains(string(bodyOf(r)), own) {
			return false
		}
		kubetest.Refuse(rw, http.StatusForbidden, "Forbidden", `jobs.batch is forbidden: User "slipway" cannot get resource "jobs" in the namespace "dev"`, nil)
		return true
	})
}
