package dispatch_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
)

// subStates are what an observer, and an engine whose process has begun, write over a
// claim.
var subStates = map[string]doc{
	"InfrastructurePending": {"type": "PENDING", "name": "InfrastructurePending"},
	"Submitting":            {"type": "PENDING", "name": "Submitting", "state_details": doc{"transition_id": "31111111-1111-4111-8111-111111111111"}},
}

// TestSubStates: a PENDING run under another name is judged by its claim's Job, as one
// that is called Pending. It had a pod: a Job that is gone is not made again.
func TestSubStates(t *testing.T) {
	noPID := func(w *world, id, _ string) {
		w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
	}
	for name, c := range map[string]struct {
		happens func(w *world, id, job string)
		action  dispatch.Action
		want    string
		jobs    int
	}{
		"its Job is live":           {func(*world, string, string) {}, dispatch.LeaveAlone, "PENDING", 1},
		"live, and no pid says so":  {noPID, dispatch.WritePID, "PENDING", 1},
		"its Job is gone":           {func(w *world, _, job string) { w.kube.Remove(job) }, dispatch.Crash, "CRASHED", 0},
		"gone, and there is no pid": {func(w *world, id, job string) { noPID(w, id, job); w.kube.Remove(job) }, dispatch.Crash, "CRASHED", 0},
		"its Job failed":            {func(w *world, _, job string) { w.kube.Change(job, endedAt("Failed", time.Now())) }, dispatch.Crash, "CRASHED", 1},
		"its Job completed":         {func(w *world, _, job string) { w.kube.Change(job, endedAt("Complete", time.Now())) }, dispatch.Crash, "CRASHED", 1},
		"failed, and no pid says so": {func(w *world, id, job string) {
			noPID(w, id, job)
			w.kube.Change(job, endedAt("Failed", time.Now()))
		}, dispatch.Crash, "CRASHED", 1},
		"its pod does not start": {func(w *world, _, job string) {
			w.kube.Change(job, func(d doc) { d["status"] = doc{"active": 1.0} })
			w.pod("image-pull", job)
		}, dispatch.Crash, "CRASHED", 1},
		"it is cancelled": {func(w *world, id, _ string) { w.force(id, "CANCELLING") }, dispatch.DeleteJob, "CANCELLING", 0},
	} {
		for sub, state := range subStates {
			t.Run(sub+", "+name, func(t *testing.T) {
				w := newWorld(t)
				w.change = limits("ImagePullError", time.Minute)
				id, job := w.submitted()
				w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": state})
				if run := w.state(id); run.StateName != sub {
					t.Fatalf("the run is %s", run.StateName)
				}
				c.happens(w, id, job)
				r := w.sweep()
				if row(r, id).Action != c.action || r.Failed != 0 || w.state(id).StateType != c.want || w.jobsOf(id) != c.jobs {
					t.Errorf("%+v: the run is %s with %d Jobs, want %s with %d", r, w.state(id).StateType, w.jobsOf(id), c.want, c.jobs)
				}
			})
		}
	}
}

// TestStaleClaimUnderASubState is put back too.
func TestStaleClaimUnderASubState(t *testing.T) {
	for sub, state := range subStates {
		t.Run(sub, func(t *testing.T) {
			w := newWorld(t)
			id := w.run()
			w.force(id, "RUNNING", "COMPLETED")
			w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": w.newClaim(id)}})
			w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": state})
			if r := w.sweep(); w.state(id).StateType != "COMPLETED" || r.Repaired != 1 || len(w.kube.Jobs()) != 0 {
				t.Errorf("%+v: the run is %s with %d Jobs", r, w.state(id).StateType, len(w.kube.Jobs()))
			}
		})
	}
}

// TestClaimWithoutAnID is one of a client that sends none. It is left to that client, and
// given back after the grace for claims that are not Slipway's.
func TestClaimWithoutAnID(t *testing.T) {
	for name, c := range map[string]struct {
		grace, age time.Duration
		want       string
	}{
		"older than the grace":   {time.Minute, 2 * time.Minute, "SCHEDULED"},
		"younger than the grace": {time.Hour, 2 * time.Minute, "PENDING"},
		"without a grace":        {0, 48 * time.Hour, "PENDING"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.change = func(o *dispatch.Options) { o.ForeignOrphanGrace = c.grace }
			id := w.run()
			w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "PENDING", "name": "Pending"}})
			r := w.sweepIn(c.age, pool)
			if run := w.state(id); run.StateType != c.want || r.Failed != 0 || !strings.Contains(row(r, id).Reason, "somebody else") {
				t.Errorf("%+v: the run is %s", r, run.StateType)
			}
			if c.want == "SCHEDULED" {
				w.change = func(o *dispatch.Options) { o.Now = func() time.Time { return w.now().Add(c.age + time.Minute) } }
				if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 {
					t.Errorf("the next pass: %+v, %d Jobs", line, w.jobsOf(id))
				}
			}
		})
	}
}

// TestForeignClaimBesideAnEndedJob: the kept Job of an earlier attempt does not hide that
// somebody else's claim has none.
func TestForeignClaimBesideAnEndedJob(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) { o.ForeignOrphanGrace = time.Minute }
	id, job := w.submitted()
	w.force(id, "RUNNING", "FAILED")
	w.kube.Change(job, endedAt("Failed", time.Now()))
	w.retry(id)
	w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": workersClaim}})
	if r := w.sweep(); w.state(id).StateType != "SCHEDULED" {
		t.Errorf("%+v: the run is %s", r, w.state(id).StateType)
	}
}
