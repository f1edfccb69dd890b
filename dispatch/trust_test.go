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

// TestAdoptedPIDOfAnothersJob: a pid is a text that any client of Prefect can write. The
// Job that it names is neither deleted for the run nor taken for its own.
func TestAdoptedPIDOfAnothersJob(t *testing.T) {
	for owner, disguise := range map[string]func(metadata doc){
		"of no flow run":                       func(m doc) { m["labels"] = doc{"app": "billing"} },
		"of no run of Prefect's, in this pool": func(m doc) { delete(m["labels"].(doc), "prefect.io/flow-run-id") },
		"of another run":                       func(doc) {},
		"of another run's worker":              func(m doc) { delete(m, "annotations") },
	} {
		for _, state := range []string{"CANCELLING", "RUNNING", "COMPLETED", "SCHEDULED"} {
			t.Run(state+", "+owner, func(t *testing.T) {
				w := newWorld(t)
				victim, job := w.submitted()
				w.force(victim, "RUNNING")
				w.kube.Change(job, func(d doc) { disguise(d["metadata"].(doc)) })
				id := w.prefect.AddRun(w.deployment, time.Now().Add(time.Hour), nil)
				w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": workersClaim}})
				w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": "dev:" + job[strings.LastIndex(job, "/")+1:]})
				w.force(id, "RUNNING", state)
				w.change = func(o *dispatch.Options) { o.Adopt = true }
				for range 2 {
					if r := w.sweep(); row(r, id).Done || len(w.kube.Jobs()) != 1 {
						t.Errorf("%+v: %d Jobs", r, len(w.kube.Jobs()))
					}
				}
				w.kube.Change(job, endedAt("Failed", time.Now()))
				w.sweep()
				if got := w.state(id).StateType; got != state || len(w.kube.Jobs()) != 1 {
					t.Errorf("once that Job failed the run is %s, and there are %d Jobs", got, len(w.kube.Jobs()))
				}
			})
		}
	}
}

// forged is a run under a claim that names a place of somebody's choice.
func (w *world) forged(namespace string) (id string, place claim.Place) {
	w.t.Helper()
	id = w.run()
	transition := w.newClaim(id)
	place = claim.Place{Namespace: namespace, Name: claim.JobName("x-", transition)}
	w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "PENDING", "name": "Pending", "message": claim.Message(place), "state_details": doc{"transition_id": transition}}})
	return id, place
}

// locked makes the base job template one that fixes the namespace.
func (w *world) locked() {
	w.t.Helper()
	fixed := template()
	fixed["job_configuration"].(doc)["namespace"] = "dev"
	fixed["job_configuration"].(doc)["job_manifest"].(doc)["metadata"].(doc)["namespace"] = "dev"
	delete(fixed["variables"].(doc)["properties"].(doc), "namespace")
	w.call(http.MethodPatch, "/work_pools/"+pool, doc{"base_job_template": fixed})
}

// TestForgedPlace: a claim's message is such a text too. No Job is made in a namespace to
// which no Job of the work pool goes; it is made at the rendered place, when nobody can be
// making it any more where the claim says.
func TestForgedPlace(t *testing.T) {
	for name, namespace := range map[string]string{"the system's": "kube-system", "Slipway's own": "default"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.locked()
			id, _ := w.forged(namespace)
			for _, after := range []time.Duration{2 * time.Minute, 9 * time.Minute} {
				r := w.sweepIn(after, pool)
				if r.Repaired != 0 || r.Failed != 0 || len(w.kube.Jobs()) != 0 || !strings.Contains(row(r, id).Reason, namespace) {
					t.Errorf("after %s: %+v, %d Jobs", after, r, len(w.kube.Jobs()))
				}
			}
			r := w.sweepIn(11*time.Minute, pool)
			if r.Repaired != 1 || w.jobsOf(id) != 1 || !strings.HasPrefix(w.state(id).InfrastructurePID, "dev:") {
				t.Errorf("%+v: %d Jobs, pid %s", r, w.jobsOf(id), w.state(id).InfrastructurePID)
			}
			if n := w.kubePosts("/namespaces/" + namespace + "/jobs"); n != 0 {
				t.Errorf("%d attempts to make a Job in %s", n, namespace)
			}
		})
	}
}

// TestForgedPlaceAndPID: nor does a pid beside it help.
func TestForgedPlaceAndPID(t *testing.T) {
	w := newWorld(t)
	id, place := w.forged("kube-system")
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": place.PID()})
	if r := w.sweep(); w.kubePosts("/jobs") != 0 || w.state(id).StateType != "CRASHED" {
		t.Errorf("%+v: the run is %s", r, w.state(id).StateType)
	}
}

// TestTrustedPlaces: a namespace that the settings name, or that has Jobs of this work
// pool, is one to which its Jobs go, whatever the deployment says since.
func TestTrustedPlaces(t *testing.T) {
	for name, prepare := range map[string]func(w *world){
		"named by the settings": func(w *world) {
			w.change = func(o *dispatch.Options) { o.Namespaces = []string{"third", "dev"} }
		},
		"with a Job of the work pool": func(w *world) {
			d := w.prefect.AddDeployment(pool, "etl", "kept", doc{"job_variables": doc{"namespace": "third"}})
			w.prefect.AddRun(d, time.Now().Add(-time.Second), nil)
			w.pass()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.kube = kubetest.New(t, "dev", "third")
			prepare(w)
			id, _ := w.forged("third")
			if r := w.sweepIn(2*time.Minute, pool); r.Repaired != 1 || w.jobsOf(id) != 1 || !strings.HasPrefix(w.state(id).InfrastructurePID, "third:") {
				t.Errorf("%+v: %d Jobs, pid %s", r, w.jobsOf(id), w.state(id).InfrastructurePID)
			}
		})
	}
	t.Run("with a Job of another work pool", func(t *testing.T) {
		w := newWorld(t)
		w.kube = kubetest.New(t, "dev", "third")
		w.addPool("other")
		d := w.prefect.AddDeployment("other", "etl", "kept", doc{"job_variables": doc{"namespace": "third"}})
		w.prefect.AddRun(d, time.Now().Add(-time.Second), nil)
		if _, err := w.dispatcher().Dispatch(t.Context(), dispatch.Request{WorkPools: []string{"other"}}); err != nil || len(w.kube.Jobs()) != 1 {
			t.Fatalf("%v, %d Jobs", err, len(w.kube.Jobs()))
		}
		id, _ := w.forged("third")
		if r := w.sweepIn(2*time.Minute, pool); r.Repaired != 0 || w.jobsOf(id) != 0 {
			t.Errorf("%+v: %d Jobs", r, w.jobsOf(id))
		}
	})
}

// movedOn is a run that was moved to the work pool "new" after its first attempt, whose
// Job is in the lists of the pool that it was of and ends, or is gone, when it is looked
// at.
func (w *world) movedOn(gone bool) (id string) {
	w.t.Helper()
	other := template()
	other["variables"].(doc)["properties"].(doc)["image"] = doc{"type": "string", "default": "new:2"}
	w.prefect.AddPool("new", doc{"type": "kubernetes", "base_job_template": other})
	id, job := w.submitted()
	w.force(id, "RUNNING", "FAILED")
	d := w.prefect.AddDeployment("new", "etl", "moved", nil)
	model := w.state(w.prefect.AddRun(d, time.Now().Add(time.Hour), nil))
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"work_pool_name": "new", "work_queue_id": model.WorkQueueID})
	w.kube.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, job[strings.LastIndex(job, "/"):]) {
			return false
		}
		if w.kube.Intercept(nil); gone {
			w.kube.Remove(job)
		} else {
			w.kube.Change(job, endedAt("Failed", time.Now()))
		}
		return false
	})
	return id
}

// TestClaimOfAnotherPoolsRun is repaired by that pool's sweep, with its template.
func TestClaimOfAnotherPoolsRun(t *testing.T) {
	for action, c := range map[dispatch.Action]struct {
		claim func(w *world, id string)
		want  string
	}{
		dispatch.CreateJob: {func(w *world, id string) {
			w.retry(id)
			w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "PENDING", "name": "Pending", "state_details": doc{"transition_id": w.newClaim(id)}}})
		}, "PENDING"},
		dispatch.PutBack: {func(w *world, id string) {
			w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": w.newClaim(id)}})
		}, "FAILED"},
		dispatch.GiveBack: {func(w *world, id string) {
			w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": workersClaim}})
		}, "SCHEDULED"},
	} {
		t.Run(string(action), func(t *testing.T) {
			w := newWorld(t, movable)
			w.change = func(o *dispatch.Options) { o.ForeignOrphanGrace = time.Minute }
			id := w.movedOn(action == dispatch.GiveBack)
			c.claim(w, id)
			jobs := w.kubePosts("/jobs")
			if r := w.sweep(); r.Repaired != 0 || r.Failed != 0 || w.state(id).StateType != "PENDING" || w.kubePosts("/jobs") != jobs || row(r, id).Action != dispatch.LeaveAlone {
				t.Errorf("the former pool's: %+v, the run is %s", r, w.state(id).StateType)
			}
			if r := w.sweepIn(time.Hour, "new"); row(r, id).Action != action || r.Repaired != 1 || w.state(id).StateType != c.want {
				t.Errorf("its own: %+v, the run is %s", r, w.state(id).StateType)
			}
			for name, job := range w.kube.Jobs() {
				if "dev:"+strings.TrimPrefix(name, "dev/") == w.state(id).InfrastructurePID && action == dispatch.CreateJob && imageOf(job) != "new:2" {
					t.Errorf("Job %s has the image %v", name, imageOf(job))
				}
			}
		})
	}
}
