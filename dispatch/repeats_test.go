package dispatch_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/kube/kubetest"
)

// loseOnce loses the answer of the first proposal of a state, after or before it had
// its effect, and then calls meanwhile.
func (w *world) loseOnce(typeOrName string, effect bool, meanwhile func()) {
	var lost atomic.Bool
	w.onPrefect(func(rw http.ResponseWriter, r *http.Request) bool {
		if !proposes(r, typeOrName) || lost.Swap(true) {
			return false
		}
		if effect {
			w.prefect.Serve(httptest.NewRecorder(), r)
		}
		if meanwhile != nil {
			meanwhile()
		}
		rw.WriteHeader(http.StatusBadGateway)
		return true
	})
}

// TestLostAnswerOfAProposal: a proposal whose answer was lost is recognised, repeated
// if it had no effect, and never repeated over what the run has become meanwhile.
func TestLostAnswerOfAProposal(t *testing.T) {
	proposers := map[string]struct {
		proposed, result string
		prepare          func(w *world) (id string)
		act              func(w *world)
	}{
		"a pass crashes": {"Crashed", "CRASHED", func(w *world) string {
			w.refusePosts(422, "Invalid", "spec.x: bad")
			return w.run()
		}, func(w *world) { w.pass() }},
		"a pass un-claims": {"AwaitingRetry", "SCHEDULED", func(w *world) string {
			w.refusePosts(403, "Forbidden", "exceeded quota: q, requested")
			return w.run()
		}, func(w *world) { w.pass() }},
		"a sweep crashes": {"Crashed", "CRASHED", func(w *world) string {
			id, job := w.submitted()
			w.force(id, "RUNNING")
			w.kube.Change(job, endedAt("Failed", time.Now()))
			return id
		}, func(w *world) { w.sweep() }},
		"a sweep cancels": {"Cancelled", "CANCELLED", func(w *world) string {
			id := w.run()
			w.force(id, "RUNNING", "CANCELLING")
			return id
		}, func(w *world) { w.sweep() }},
		"a sweep un-claims": {"AwaitingRetry", "SCHEDULED", func(w *world) string {
			id := w.run()
			w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": workersClaim}})
			w.change = func(o *dispatch.Options) { o.ForeignOrphanGrace = time.Minute }
			return id
		}, func(w *world) { w.sweep() }},
	}
	for name, p := range proposers {
		for fault, c := range map[string]struct {
			effect  bool
			movesOn string
			want    string
			sent    int
		}{
			"after its effect":                      {true, "", p.result, 1},
			"before its effect":                     {false, "", p.result, 2},
			"after its effect, and it has ended":    {true, "COMPLETED", "COMPLETED", 1},
			"before its effect, and it has ended":   {false, "COMPLETED", "COMPLETED", 1},
			"before its effect, and it was retried": {false, "SCHEDULED", "SCHEDULED", 1},
		} {
			t.Run(name+", lost "+fault, func(t *testing.T) {
				w := newWorld(t)
				id := p.prepare(w)
				w.loseOnce(p.proposed, c.effect, func() {
					if c.movesOn != "" {
						w.force(id, "PENDING", "RUNNING", c.movesOn)
					}
				})
				p.act(w)
				if run := w.state(id); run.StateType != c.want || len(w.proposals(p.proposed)) != c.sent {
					t.Errorf("the run is %s after %d proposals, want %s after %d", run.StateType, len(w.proposals(p.proposed)), c.want, c.sent)
				}
			})
		}
	}
}

// TestLostAnswerLosesNoReport: what is known of a crash is told though the answer to
// the proposal was lost.
func TestLostAnswerLosesNoReport(t *testing.T) {
	t.Run("of a sweep", func(t *testing.T) {
		w := newWorld(t)
		w.change = func(o *dispatch.Options) { o.PodEvents = true }
		id, job := w.submitted()
		w.force(id, "RUNNING")
		w.kube.Change(job, endedAt("Failed", time.Now()))
		w.answerLists([]any{w.recordedPod("oom", job[strings.LastIndex(job, "/")+1:])}, nil)
		w.loseOnce("CRASHED", true, nil)
		if r := w.sweep(); r.Repaired != 1 {
			t.Errorf("%+v", r)
		}
		if w.lines("Slipway: its Job failed") != 1 || w.lines("Conditions of pod oom-") != 1 || len(w.prefect.Events()) != 1 {
			t.Errorf("log %v, events %v", w.prefect.Logs(), w.prefect.Events())
		}
	})
	t.Run("of a pass", func(t *testing.T) {
		w := newWorld(t)
		id := w.run()
		w.refusePosts(422, "Invalid", "spec.x: bad")
		w.loseOnce("CRASHED", true, nil)
		if line := only(w.pass(), t); line.Outcome != dispatch.Refused || w.lines("spec.x: bad") != 1 || w.state(id).StateType != "CRASHED" {
			t.Errorf("%+v, log %v", line, w.prefect.Logs())
		}
	})
}

// TestShortTTL: after a creation of unknown effect, the run tells whether its Job has
// run and is gone: then no other is made.
func TestShortTTL(t *testing.T) {
	for state, want := range map[string]dispatch.Outcome{
		"RUNNING": dispatch.Submitted, "COMPLETED": dispatch.Submitted, "FAILED": dispatch.Submitted,
		"CANCELLED": dispatch.Skipped, "CANCELLING": dispatch.Skipped, "SCHEDULED": dispatch.Skipped,
	} {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t)
			id := w.run()
			var tries atomic.Int64
			w.onJobPost(func(rw http.ResponseWriter, r *http.Request) bool {
				if tries.Add(1) == 1 {
					w.kube.LoseAnswer(rw, r)
				}
				return tries.Load() == 1
			})
			w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, id) && len(w.kube.Jobs()) > 0 {
					w.force(id, "RUNNING", state)
					for name := range w.kube.Jobs() {
						w.kube.Remove("jobs/" + name)
					}
				}
				return false
			})
			line := only(w.pass(), t)
			if line.Outcome != want || w.jobsOf(id) != 0 || tries.Load() != 1 || w.state(id).StateType != state {
				t.Errorf("%+v after %d attempts: the run is %s with %d Jobs", line, tries.Load(), w.state(id).StateType, w.jobsOf(id))
			}
		})
	}
	t.Run("deleted", func(t *testing.T) {
		w := newWorld(t)
		id := w.run()
		w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
			w.deleteRun(id)
			w.kube.Break(rw)
			return true
		})
		if line := only(w.pass(), t); line.Outcome != dispatch.Skipped || w.kubePosts("/jobs") != 1 {
			t.Errorf("%+v after %d attempts", line, w.kubePosts("/jobs"))
		}
	})
}

// TestFurtherAttemptsReadTheRun: also after a refusal without effect, a run that was
// ended meanwhile gets no Job.
func TestFurtherAttemptsReadTheRun(t *testing.T) {
	for name, refuse := range map[string]func(w *world, rw http.ResponseWriter){
		"429": func(_ *world, rw http.ResponseWriter) { kubetest.Refuse(rw, 429, "TooManyRequests", "slow down", nil) },
		"401": func(_ *world, rw http.ResponseWriter) { kubetest.Refuse(rw, 401, "Unauthorized", "Unauthorized", nil) },
		"403": func(_ *world, rw http.ResponseWriter) {
			kubetest.Refuse(rw, 403, "Forbidden", `jobs.batch is forbidden: User "x" cannot create resource "jobs"`, nil)
		},
		"500": func(_ *world, rw http.ResponseWriter) {
			kubetest.Refuse(rw, 500, "InternalError", "etcdserver: request timed out", nil)
		},
		"cut": func(w *world, rw http.ResponseWriter) { w.kube.Break(rw) },
	} {
		for _, state := range []string{"CANCELLED", "CANCELLING", "FAILED", "SCHEDULED"} {
			t.Run(name+" "+state, func(t *testing.T) {
				w := newWorld(t)
				id := w.run()
				var tries atomic.Int64
				w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
					if tries.Add(1) > 1 {
						return false
					}
					w.force(id, state)
					refuse(w, rw)
					return true
				})
				line := only(w.pass(), t)
				if len(w.kube.Jobs()) != 0 || tries.Load() != 1 || w.state(id).StateType != state {
					t.Errorf("%+v: %d attempts, %d Jobs, the run is %s", line, tries.Load(), len(w.kube.Jobs()), w.state(id).StateType)
				}
			})
		}
	}
}
