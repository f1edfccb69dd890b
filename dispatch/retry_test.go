package dispatch_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/dispatch/claim"
	"slipway/kube/kubetest"
)

// TestRetryBesideItsFormerJob: a run that a user or an engine has put back is not
// claimed while a Job of its earlier attempt is active.
func TestRetryBesideItsFormerJob(t *testing.T) {
	w := newWorld(t)
	id, job := w.submitted()
	w.prefect.Force(id, doc{"type": "RUNNING"})
	w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "SCHEDULED", "name": "AwaitingRetry"}})
	if line := only(w.pass(), t); line.Outcome != dispatch.Skipped || !strings.Contains(line.Reason, "delete that Job") || w.jobsOf(id) != 1 {
		t.Fatalf("%+v, %d Jobs", line, w.jobsOf(id))
	}
	w.kube.Change(job, ended("Failed"))
	if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 2 {
		t.Errorf("after it failed: %+v, %d Jobs", line, w.jobsOf(id))
	}
}

// TestOrphanOfASecondAttempt: the pid of the first attempt does not hide that the
// second one's Job was never made.
func TestOrphanOfASecondAttempt(t *testing.T) {
	w := newWorld(t)
	id, job := w.submitted()
	w.kube.Change(job, ended("Failed"))
	w.sweep()
	w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "SCHEDULED", "name": "AwaitingRetry"}})
	w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
		w.kube.Break(rw)
		return true
	})
	w.change = func(o *dispatch.Options) { o.Deadline = 200 * time.Millisecond }
	_, _ = w.tryPass(t.Context())
	w.change = nil
	w.kube.Intercept(nil)
	if run := w.state(id); run.StateType != "PENDING" || run.InfrastructurePID == "" {
		t.Fatalf("the run is %s with pid %q", run.StateType, run.InfrastructurePID)
	}
	if r := w.sweep(); r.Repaired != 1 || w.jobsOf(id) != 2 {
		t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
	}
}

// TestUnreportedJobIsGone: a run that has started had a Job, whether or not a pid
// tells of it.
func TestUnreportedJobIsGone(t *testing.T) {
	w := newWorld(t)
	id, job := w.submitted()
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
	w.prefect.Force(id, doc{"type": "RUNNING"})
	if r := w.sweep(); r.Repaired != 1 || r.Rows[0].Action != dispatch.WritePID || w.state(id).InfrastructurePID == "" {
		t.Errorf("while its Job is active: %+v", r)
	}
	if r := w.sweep(); r.Repaired != 0 {
		t.Errorf("once its pid is written: %+v", r)
	}
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
	w.kube.Remove(job)
	if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CRASHED" {
		t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
	}
}

// TestCancelEndsAllJobs: a Job of an earlier claim ends too.
func TestCancelEndsAllJobs(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submitted()
	// A claim on a page out of date, whose dispatcher died before it put that back.
	stale, err := claim.NewID(kubetest.ClusterUID, id)
	if err != nil {
		t.Fatal(err)
	}
	w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": stale}})
	w.prefect.Force(id, doc{"type": "CANCELLING"})
	w.sweep()
	if w.jobsOf(id) != 0 {
		t.Fatalf("%d Jobs", w.jobsOf(id))
	}
	if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CANCELLED" {
		t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
	}
}
