package dispatch_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/dispatch/claim"
	"slipway/prefect/prefecttest"
)

// TestClaimedBetweenTheLists: a run that another pass claims while a sweep reads its
// lists is judged by its new Job.
func TestClaimedBetweenTheLists(t *testing.T) {
	for name, during := range map[string]func(w *world, f func()){
		"the list of Jobs": func(w *world, f func()) {
			w.kube.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && r.URL.Path == "/apis/batch/v1/jobs" {
					f()
				}
				return false
			})
		},
		"the list of runs": func(w *world, f func()) {
			w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/flow_runs/filter") {
					f()
				}
				return false
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			w.force(id, "RUNNING")
			w.prefect.Force(id, doc{"type": "PAUSED", "name": "Suspended"})
			w.kube.Change(job, endedAt("Complete", time.Now().Add(-time.Hour)))
			w.prefect.Force(id, doc{"type": "SCHEDULED", "name": "Resuming"})
			var once atomic.Bool
			during(w, func() {
				if !once.Swap(true) {
					w.pass()
				}
			})
			r := w.sweepIn(0, pool)
			if run := w.state(id); run.StateType != "PENDING" || w.jobsOf(id) != 2 || r.Repaired != 0 {
				t.Errorf("the run is %s with %d Jobs: %+v", run.StateType, w.jobsOf(id), r)
			}
		})
	}
}

// TestPagesThatShift: of the active runs one ends between two pages of the list, which
// is by id from the last one, so that the run at the seam is left out. It is a run like
// any other.
func TestPagesThatShift(t *testing.T) {
	const page = 10
	w := newWorld(t, prefecttest.APILimit(page))
	id := w.prefect.AddRun(w.deployment, time.Now(), doc{"id": "70000000-0000-4000-8000-000000000000"})
	line := only(w.pass(), t)
	w.force(id, "RUNNING", "FAILED")
	w.kube.Change("jobs/dev/"+line.Job, endedAt("Failed", time.Now().Add(-time.Hour)))
	w.prefect.Force(id, doc{"type": "SCHEDULED"})
	w.pass()
	w.force(id, "RUNNING") // healthy, in its second Job
	other := ""
	for i := range page {
		other = w.prefect.AddRun(w.deployment, time.Now().Add(time.Hour), doc{"id": fmt.Sprintf("8000000%d-0000-4000-8000-000000000000", i)})
		w.force(other, "RUNNING")
	}
	var pages atomic.Int64
	w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/flow_runs/filter") && pages.Add(1) == 2 {
			w.force(other, "COMPLETED")
		}
		return false
	})
	if r := w.sweep(); w.state(id).StateType != "RUNNING" || w.jobsOf(id) != 2 || pages.Load() < 2 {
		t.Errorf("the run is %s with %d Jobs, after %d pages: %+v", w.state(id).StateType, w.jobsOf(id), pages.Load(), r)
	}
}

// ownRetry is a run that its engine will try again, in the Job that it has.
func (w *world) ownRetry() (id, job string) {
	w.t.Helper()
	id, job = w.submitted()
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"empirical_policy": doc{"retries": 3, "retry_delay": 600}})
	w.force(id, "RUNNING")
	w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "FAILED"}})
	if run := w.state(id); run.StateName != "AwaitingRetry" || run.EmpiricalPolicy.RetryType != "in_process" {
		w.t.Fatalf("the run is %s, %+v", run.StateName, run.EmpiricalPolicy)
	}
	return id, job
}

// TestStaleClaimOnAnEnginesRetry: a claim by an old page on a run that its own engine
// tries again gets no Job; and when the engine goes on under it, its Job decides.
func TestStaleClaimOnAnEnginesRetry(t *testing.T) {
	w := newWorld(t)
	id, job := w.ownRetry()
	w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "PENDING", "name": "Pending", "state_details": doc{"transition_id": w.newClaim(id)}}})
	if r := w.sweepIn(time.Second, pool); r.Repaired != 0 || w.state(id).StateType != "PENDING" {
		t.Errorf("its owner has its time: %+v", r)
	}
	w.force(id, "RUNNING") // the engine goes on
	if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "RUNNING" || w.jobsOf(id) != 1 {
		t.Errorf("while its Job is active: %+v, the run is %s", r, w.state(id).StateType)
	}
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
	if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "RUNNING" {
		t.Errorf("while its Job is active, and nothing says where: %+v, the run is %s", r, w.state(id).StateType)
	}
	w.force(id, "CANCELLING")
	if r := w.sweepIn(10*time.Second, pool); r.Repaired != 0 || w.state(id).StateType != "CANCELLING" || w.jobsOf(id) != 1 {
		t.Errorf("while hooks run: %+v, the run is %s", r, w.state(id).StateType)
	}
	w.force(id, "RUNNING")
	w.kube.Change(job, endedAt("Failed", time.Now()))
	if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CRASHED" {
		t.Errorf("once its Job failed: %+v, the run is %s", r, w.state(id).StateType)
	}
}

// TestStaleClaimIsPutBack: what a claim on an old page has replaced comes back, whatever
// Job the claim has, and no Job is made.
func TestStaleClaimIsPutBack(t *testing.T) {
	t.Run("over an engine's retry", func(t *testing.T) {
		w := newWorld(t)
		id, _ := w.ownRetry()
		w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "PENDING", "name": "Pending", "state_details": doc{"transition_id": w.newClaim(id)}}})
		r := w.sweep()
		if run := w.state(id); row(r, id).Action != dispatch.PutBack || run.StateName != "AwaitingRetry" || run.EmpiricalPolicy.RetryType != "in_process" || w.jobsOf(id) != 1 {
			t.Errorf("%+v: the run is %s with %d Jobs", r, run.StateName, w.jobsOf(id))
		}
	})
	for _, former := range []string{"COMPLETED", "FAILED", "CRASHED"} {
		t.Run("over "+former, func(t *testing.T) {
			w := newWorld(t)
			id := w.run()
			w.force(id, "RUNNING", former)
			w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": w.newClaim(id)}})
			if r := w.sweep(); row(r, id).Action != dispatch.PutBack || w.state(id).StateType != former || len(w.kube.Jobs()) != 0 {
				t.Errorf("%+v: the run is %s with %d Jobs", r, w.state(id).StateType, len(w.kube.Jobs()))
			}
		})
	}
	for former, end := range map[string]string{"COMPLETED": "Complete", "SCHEDULED": "Failed"} {
		t.Run("the same claim twice, over "+former, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			granted := w.state(id).State
			w.kube.Change(job, endedAt(end, time.Now()))
			if w.force(id, "RUNNING", "COMPLETED"); former == "SCHEDULED" {
				w.retry(id)
			}
			// The first request, which hung while its repeat was granted, is granted too.
			w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "PENDING", "name": "Pending", "message": granted.Message, "state_details": doc{"transition_id": granted.Details.TransitionID}}})
			if r := w.sweep(); row(r, id).Action != dispatch.PutBack || w.state(id).StateType != former || w.jobsOf(id) != 1 {
				t.Errorf("%+v: the run is %s with %d Jobs", r, w.state(id).StateType, w.jobsOf(id))
			}
		})
	}
}

// pod answers lists of pods with one of a Job.
func (w *world) pod(recorded, job string) {
	w.t.Helper()
	w.answerLists([]any{w.recordedPod(recorded, job[strings.LastIndex(job, "/")+1:])}, nil)
}

// TestCrashedFromOutside: the live pod of a CRASHED run would put it back when it is
// told to end. It is kept; one that never started is deleted, and so is one whose
// attempt a retry has replaced.
func TestCrashedFromOutside(t *testing.T) {
	for name, c := range map[string]struct {
		pod  string
		jobs int
	}{"started": {"healthy", 1}, "never started": {"image-pull", 0}, "with no pod": {"", 0}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			if c.pod != "" {
				w.pod(c.pod, job)
			}
			w.force(id, "RUNNING", "CRASHED")
			if r := w.sweepIn(10*time.Second, pool); r.Repaired != 0 || w.jobsOf(id) != 1 {
				t.Errorf("a moment later: %+v, %d Jobs", r, w.jobsOf(id))
			}
			for range 2 {
				w.sweep()
			}
			if w.jobsOf(id) != c.jobs || w.state(id).StateType != "CRASHED" {
				t.Errorf("the run is %s with %d Jobs, want %d", w.state(id).StateType, w.jobsOf(id), c.jobs)
			}
		})
	}
	t.Run("and retried", func(t *testing.T) {
		w := newWorld(t)
		id, job := w.submitted()
		w.pod("healthy", job)
		w.force(id, "RUNNING", "CRASHED")
		w.retry(id)
		if line := only(w.pass(), t); line.Outcome != dispatch.Skipped || w.jobsOf(id) != 1 {
			t.Errorf("%+v, %d Jobs", line, w.jobsOf(id))
		}
		if r := w.sweep(); row(r, id).Action != dispatch.DeleteJob || w.jobsOf(id) != 0 || w.state(id).StateType != "SCHEDULED" {
			t.Errorf("%+v: the run is %s with %d Jobs", r, w.state(id).StateType, w.jobsOf(id))
		}
		if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 {
			t.Errorf("%+v, %d Jobs", line, w.jobsOf(id))
		}
	})
}

// TestPutBackByItsEngine: a run that an engine put back when it was told to end is its
// Job's still, which may have another pod.
func TestPutBackByItsEngine(t *testing.T) {
	w := newWorld(t)
	id, job := w.submitted()
	w.pod("healthy", job)
	w.force(id, "RUNNING")
	w.retry(id)
	if r := w.sweep(); r.Repaired != 0 || w.jobsOf(id) != 1 {
		t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
	}
	// The new pod never starts: a limit lets the run start anew.
	w.change = func(o *dispatch.Options) { o.StartLimits = map[string]time.Duration{"ImagePullError": time.Minute} }
	w.pod("image-pull", job)
	if r := w.sweep(); row(r, id).Action != dispatch.DeleteJob || w.jobsOf(id) != 0 {
		t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
	}
	if line := only(w.pass(), t); line.Outcome != dispatch.Submitted {
		t.Errorf("%+v", line)
	}
}

// TestClaimIsExactlyPending: states of another name do not hide the claim.
func TestClaimIsExactlyPending(t *testing.T) {
	w := newWorld(t)
	id, job := w.submitted()
	w.prefect.Force(id, doc{"type": "PENDING", "name": "InfrastructurePending"})
	if r := w.sweep(); r.Repaired != 0 {
		t.Errorf("while its Job is active: %+v", r)
	}
	w.kube.Remove(job)
	r := w.sweep()
	if run := w.state(id); row(r, id).Action != dispatch.Crash || run.StateType != "CRASHED" || claim.IsSlipways(run.State.Details.TransitionID) {
		t.Errorf("%+v: the run is %s, by %s", r, run.StateType, run.State.Details.TransitionID)
	}
}
