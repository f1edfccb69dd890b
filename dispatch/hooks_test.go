package dispatch_test

import (
	"net/http"
	"testing"
	"time"

	"slipway/dispatch"
)

// TestCancellingHasItsTime: an engine that cancels its run, and runs the flow's hooks,
// is left to it for a while; a run that never started has no engine.
func TestCancellingHasItsTime(t *testing.T) {
	for name, c := range map[string]struct {
		started bool
		after   time.Duration
		jobs    int
	}{
		"started, a moment ago":       {true, 10 * time.Second, 1},
		"started, longer ago":         {true, 40 * time.Second, 0},
		"never started, a moment ago": {false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, _ := w.submitted()
			if c.started {
				w.force(id, "RUNNING")
			}
			w.force(id, "CANCELLING")
			r := w.sweepIn(c.after, pool)
			if w.jobsOf(id) != c.jobs || w.state(id).StateType != "CANCELLING" || !r.Ending {
				t.Errorf("%+v: the run is %s with %d Jobs, want %d", r, w.state(id).StateType, w.jobsOf(id), c.jobs)
			}
		})
	}
	t.Run("its engine has ended", func(t *testing.T) {
		w := newWorld(t)
		id, job := w.submitted()
		w.force(id, "RUNNING", "CANCELLING")
		w.kube.Change(job, endedAt("Complete", time.Now()))
		if r := w.sweepIn(10*time.Second, pool); r.Repaired != 1 || w.state(id).StateType != "CANCELLED" || w.jobsOf(id) != 1 {
			t.Errorf("%+v: the run is %s", r, w.state(id).StateType)
		}
	})
	t.Run("its pod is ending", func(t *testing.T) {
		w := newWorld(t)
		id, job := w.submitted()
		w.force(id, "RUNNING", "CANCELLING")
		w.kube.Change(job, func(d doc) { d["metadata"].(doc)["deletionTimestamp"] = time.Now().UTC().Format(time.RFC3339) })
		if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "CANCELLING" || !r.Ending {
			t.Errorf("%+v: the run is %s", r, w.state(id).StateType)
		}
	})
	t.Run("its Job is gone, its pod is not", func(t *testing.T) {
		w := newWorld(t)
		id, job := w.submitted()
		w.force(id, "RUNNING", "CANCELLING")
		w.pod("healthy", job)
		w.kube.Remove(job)
		if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "CANCELLING" || !r.Ending {
			t.Errorf("%+v: the run is %s", r, w.state(id).StateType)
		}
	})
}

// TestEndedHasItsTime: a pod may go on for a moment after its flow run has ended.
func TestEndedHasItsTime(t *testing.T) {
	for _, state := range []string{"COMPLETED", "FAILED", "CANCELLED"} {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			w.pod("healthy", job)
			w.force(id, "RUNNING", state)
			if r := w.sweepIn(20*time.Second, pool); r.Repaired != 0 || w.jobsOf(id) != 1 {
				t.Errorf("a moment later: %+v, %d Jobs", r, w.jobsOf(id))
			}
			if r := w.sweepIn(40*time.Second, pool); r.Repaired != 1 || w.jobsOf(id) != 0 || w.state(id).StateType != state {
				t.Errorf("later: %+v, %d Jobs, the run is %s", r, w.jobsOf(id), w.state(id).StateType)
			}
		})
	}
}

// TestPodOutlivesItsJob: a short time to live takes a Job away while its engine may
// still report.
func TestPodOutlivesItsJob(t *testing.T) {
	for _, state := range []string{"PENDING", "RUNNING"} {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			if state == "RUNNING" {
				w.force(id, "RUNNING")
			}
			w.pod("healthy", job)
			w.kube.Remove(job)
			if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != state || w.jobsOf(id) != 0 {
				t.Errorf("%+v: the run is %s", r, w.state(id).StateType)
			}
			w.pod("exit-code", job)
			if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CRASHED" {
				t.Errorf("once it has ended: %+v, the run is %s", r, w.state(id).StateType)
			}
		})
	}
}

// TestSecondLook: what has changed since it was judged is not touched.
func TestSecondLook(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *world) (id string)
		becomes string
	}{
		"a failed Job, and the run ends": {func(w *world) string {
			id, job := w.submitted()
			w.force(id, "RUNNING")
			w.kube.Change(job, endedAt("Failed", time.Now()))
			return id
		}, "FAILED"},
		"a leftover, and the run is retried": {func(w *world) string {
			id, _ := w.submitted()
			w.force(id, "RUNNING", "FAILED")
			return id
		}, "SCHEDULED"},
		"a cancelled run's Job, and the run goes on": {func(w *world) string {
			id, _ := w.submitted()
			w.force(id, "RUNNING", "CANCELLING")
			return id
		}, "RUNNING"},
		"an unreported Job, and the run ends": {func(w *world) string {
			id, _ := w.submitted()
			w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
			return id
		}, "FAILED"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := c.prepare(w)
			reads := 0
			w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && r.URL.Path == "/api/flow_runs/"+id {
					if reads++; reads == 2 { // the first one is for the judgement
						w.force(id, c.becomes)
					}
				}
				return false
			})
			r := w.sweep()
			if w.state(id).StateType != c.becomes || w.jobsOf(id) != 1 || r.Repaired != 0 || reads < 2 {
				t.Errorf("%+v: the run is %s with %d Jobs", r, w.state(id).StateType, w.jobsOf(id))
			}
		})
	}
}

// TestDeletedRun: its Job goes when the run is really gone, and is not new.
func TestDeletedRun(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submitted()
	w.deleteRun(id)
	if r := w.sweepIn(10*time.Second, pool); r.Repaired != 0 || len(w.kube.Jobs()) != 1 {
		t.Errorf("%+v, %d Jobs", r, len(w.kube.Jobs()))
	}
	if r := w.sweep(); r.Repaired != 1 || row(r, id).Action != dispatch.DeleteJob || len(w.kube.Jobs()) != 0 {
		t.Errorf("%+v, %d Jobs", r, len(w.kube.Jobs()))
	}
}
