package dispatch_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/kube/kubetest"
)

// adopting lets the sweep manage what Python workers left.
func adopting(o *dispatch.Options) { o.Adopt = true }

// workersJob makes a Job as a Python worker does for a run.
func (w *world) workersJob(id string) (job string) {
	w.t.Helper()
	lent := w.prefect.AddRun(w.deployment, time.Now().Add(-time.Second), nil)
	line := only(w.pass(func(r *dispatch.Request) { r.FlowRunIDs = []string{lent} }), w.t)
	w.deleteRun(lent)
	job = "jobs/dev/" + line.Job
	w.kube.Change(job, func(d doc) {
		metadata := d["metadata"].(doc)
		delete(metadata, "annotations")
		delete(metadata["labels"].(doc), "slipway/work-pool-id")
		metadata["labels"].(doc)["prefect.io/flow-run-id"] = id
	})
	return job
}

// claimedByWorker is a run that only a worker has ever claimed.
func (w *world) claimedByWorker() (id, job string) {
	w.t.Helper()
	id = w.prefect.AddRun(w.deployment, time.Now().Add(time.Hour), nil)
	job = w.workersJob(id)
	w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": workersClaim, "scheduled_time": time.Now().UTC().Format(time.RFC3339Nano)}})
	return id, job
}

// TestAdoptedPodThatDoesNotStart: a Job that only the list shows, there being no pid, is
// there at the second look too.
func TestAdoptedPodThatDoesNotStart(t *testing.T) {
	w := newWorld(t)
	id, job := w.claimedByWorker()
	w.kube.Change(job, func(d doc) { d["status"] = doc{"active": 1.0} })
	w.pod("image-pull", job)
	w.change = func(o *dispatch.Options) { adopting(o); limits("ImagePullError", time.Minute)(o) }
	if r := w.sweep(); row(r, id).Action != dispatch.Crash || r.Repaired != 1 || w.state(id).StateType != "CRASHED" {
		t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
	}
}

// TestAdoptedWithoutAPID: the ended Job of a worker that died before it wrote the pid ends
// its run all the same.
func TestAdoptedWithoutAPID(t *testing.T) {
	for _, end := range []string{"Failed", "Complete"} {
		t.Run(end, func(t *testing.T) {
			w := newWorld(t)
			w.change = adopting
			id, job := w.claimedByWorker()
			w.force(id, "RUNNING")
			if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "RUNNING" {
				t.Errorf("while its Job is active: %+v, the run is %s", r, w.state(id).StateType)
			}
			w.kube.Change(job, endedAt(end, time.Now()))
			if r := w.sweep(); w.state(id).StateType != "CRASHED" {
				t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
			}
		})
	}
}

// TestAdoptedBesideSlipwaysJob: the failed Job of a worker ends no run that a Job of
// Slipway's may be executing.
func TestAdoptedBesideSlipwaysJob(t *testing.T) {
	w := newWorld(t)
	id, own := w.submitted()
	job := w.workersJob(id)
	w.force(id, "RUNNING")
	w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": workersClaim}})
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": "dev:" + job[strings.LastIndex(job, "/")+1:]})
	w.force(id, "RUNNING")
	w.change = adopting
	w.kube.Change(job, endedAt("Failed", time.Now()))
	if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "RUNNING" || w.jobsOf(id) != 2 {
		t.Errorf("%+v, the run is %s with %d Jobs", r, w.state(id).StateType, w.jobsOf(id))
	}
	w.kube.Remove(own)
	if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CRASHED" {
		t.Errorf("without Slipway's: %+v, the run is %s", r, w.state(id).StateType)
	}
}

// TestAdoptedPIDOfAnotherCluster: a pid of Prefect 2 names the cluster. That a Job of
// another cluster is not in this one proves nothing.
func TestAdoptedPIDOfAnotherCluster(t *testing.T) {
	for cluster, want := range map[string]string{
		kubetest.ClusterUID: "CRASHED", strings.ToUpper(kubetest.ClusterUID): "CRASHED", "22222222-2222-4222-8222-222222222222": "RUNNING",
	} {
		w := newWorld(t)
		w.change = adopting
		id := w.run()
		w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": workersClaim}})
		w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": cluster + ":dev:amber-fox-x7k2p"})
		w.force(id, "RUNNING")
		if r := w.sweep(); w.state(id).StateType != want {
			t.Errorf("cluster %s: %+v, the run is %s, want %s", cluster, r, w.state(id).StateType, want)
		}
	}
}
