package dispatch_test

import (
	"testing"
	"time"

	"slipway/dispatch"
)

// workersRun is a run as a Python worker leaves it: under its claim, with a Job.
func (w *world) workersRun(state string) (id, job string) {
	w.t.Helper()
	id, job = w.submitted()
	w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": "11111111-1111-4111-8111-111111111111"}})
	w.prefect.Force(id, doc{"type": state})
	w.kube.Change(job, func(d doc) {
		metadata := d["metadata"].(doc)
		delete(metadata, "annotations")
		metadata["labels"].(doc)["prefect.io/work-pool-name"] = pool
	})
	return id, job
}

// TestAdoption: a worker's runs are its own, until the settings say that it is gone.
func TestAdoption(t *testing.T) {
	for name, c := range map[string]struct {
		state, want string
		happens     func(w *world, job string)
		jobs        int
	}{
		"a failed Job":   {"RUNNING", "CRASHED", func(w *world, job string) { w.kube.Change(job, ended("Failed")) }, 1},
		"a deleted Job":  {"RUNNING", "CRASHED", func(w *world, job string) { w.kube.Remove(job) }, 0},
		"a cancellation": {"CANCELLING", "CANCELLED", func(*world, string) {}, 0},
		"a leftover":     {"COMPLETED", "COMPLETED", func(*world, string) {}, 0},
		"an active Job":  {"RUNNING", "RUNNING", func(*world, string) {}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.workersRun(c.state)
			c.happens(w, job)
			if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != c.state {
				t.Errorf("without being told to: %+v, the run is %s", r, w.state(id).StateType)
			}
			w.change = func(o *dispatch.Options) { o.Adopt = true }
			for range 2 {
				w.sweep()
			}
			if w.state(id).StateType != c.want || w.jobsOf(id) != c.jobs {
				t.Errorf("the run is %s with %d Jobs, want %s with %d", w.state(id).StateType, w.jobsOf(id), c.want, c.jobs)
			}
		})
	}
	t.Run("a claim without a Job", func(t *testing.T) {
		w := newWorld(t)
		w.change = func(o *dispatch.Options) { o.Adopt = true }
		id := w.prefect.AddRun(w.deployment, time.Now(), nil)
		w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": "11111111-1111-4111-8111-111111111111"}})
		if r := w.sweep(); r.Repaired != 0 || w.jobsOf(id) != 0 {
			t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
		}
	})
}
