package dispatch_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/kube/kubetest"
)

// envInASecret has the environment of Jobs put into Secrets.
func envInASecret(o *dispatch.Options) {
	o.Environ = map[string]string{"PREFECT_API_KEY": "k", "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_STORE_ENV_AS_SECRET": "true"}
}

// TestUnreportedJobWithNamespacedRights: a Job in hand that bears the run's claim is
// enough, whatever other namespaces cannot be listed.
func TestUnreportedJobWithNamespacedRights(t *testing.T) {
	for name, c := range map[string]struct {
		state, want string
		happens     func(w *world, job string)
	}{
		"RUNNING, its Job failed":    {"RUNNING", "CRASHED", func(w *world, job string) { w.kube.Change(job, endedAt("Failed", time.Now())) }},
		"RUNNING, its Job completed": {"RUNNING", "CRASHED", func(w *world, job string) { w.kube.Change(job, endedAt("Complete", time.Now())) }},
		"RUNNING, its Job is gone":   {"RUNNING", "CRASHED", func(w *world, job string) { w.kube.Remove(job) }},
		"RUNNING, its Job is live":   {"RUNNING", "RUNNING", func(*world, string) {}},
		"CANCELLING, its Job live":   {"CANCELLING", "CANCELLED", func(*world, string) {}},
		"CANCELLING, its Job failed": {"CANCELLING", "CANCELLED", func(w *world, job string) { w.kube.Change(job, endedAt("Failed", time.Now())) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
			w.force(id, "RUNNING", c.state)
			c.happens(w, job)
			w.namespaced()
			for range 2 {
				w.sweep()
			}
			if run := w.state(id); run.StateType != c.want || c.want == "RUNNING" && run.InfrastructurePID == "" {
				t.Errorf("the run is %s with pid %q", run.StateType, run.InfrastructurePID)
			}
		})
	}
}

// TestNamespaceThatCannotBeRead is not judged, and holds nobody else up.
func TestNamespaceThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	unread, _ := w.submitted()
	d := w.prefect.AddDeployment(pool, "etl", "elsewhere", doc{"job_variables": doc{"namespace": "default"}})
	id := w.prefect.AddRun(d, time.Now().Add(-time.Second), nil)
	other := only(w.pass(), t)
	w.force(unread, "RUNNING")
	w.force(id, "RUNNING")
	w.kube.Remove("jobs/default/" + other.Job)
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/namespaces/dev/") || r.URL.Path == "/apis/batch/v1/jobs" {
			kubetest.Refuse(rw, 403, "Forbidden", `jobs.batch is forbidden: User "x" cannot list resource "jobs"`, nil)
			return true
		}
		return false
	})
	w.sweep()
	if w.state(unread).StateType != "RUNNING" || w.state(id).StateType != "CRASHED" {
		t.Errorf("the run of the namespace is %s, the other %s", w.state(unread).StateType, w.state(id).StateType)
	}
}

// orphanOf is one of a deployment with these job variables.
func (w *world) orphanOf(variables doc) (id, deployment string) {
	w.t.Helper()
	deployment = w.prefect.AddDeployment(pool, "etl", "special", doc{"job_variables": variables})
	id = w.prefect.AddRun(deployment, time.Now().Add(-time.Second), nil)
	w.die()
	if run := w.state(id); run.StateType != "PENDING" || len(w.kube.Jobs()) != 0 {
		w.t.Fatalf("the run is %s", run.StateType)
	}
	return id, deployment
}

func imageOf(job doc) any {
	return job["spec"].(doc)["template"].(doc)["spec"].(doc)["containers"].([]any)[0].(doc)["image"]
}

// TestOrphanOfALostDeployment: a repair renders with the deployment, which one list may
// leave out; without it the run is CANCELLED, as a pass does.
func TestOrphanOfALostDeployment(t *testing.T) {
	t.Run("left out of a list", func(t *testing.T) {
		w := newWorld(t)
		w.orphanOf(doc{"image": "etl:7", "namespace": "default"})
		w.onPrefect(func(rw http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/deployments/filter") {
				return false
			}
			_, _ = rw.Write([]byte("[]"))
			return true
		})
		w.sweep()
		for name, job := range w.kube.Jobs() {
			if imageOf(job) != "etl:7" || !strings.HasPrefix(name, "default/") {
				t.Errorf("Job %s has the image %v", name, imageOf(job))
			}
		}
		if len(w.kube.Jobs()) != 1 {
			t.Errorf("%d Jobs", len(w.kube.Jobs()))
		}
	})
	t.Run("deleted", func(t *testing.T) {
		w := newWorld(t)
		id, deployment := w.orphanOf(doc{"image": "etl:7"})
		w.call(http.MethodDelete, "/deployments/"+deployment, nil)
		r := w.sweep()
		if run := w.state(id); len(w.kube.Jobs()) != 0 || run.StateType != "CANCELLED" || !strings.Contains(run.State.Message, "was deleted") || r.Repaired != 1 {
			t.Errorf("%d Jobs, the run is %s: %s", len(w.kube.Jobs()), run.StateType, run.State.Message)
		}
	})
}

// TestRedeployedMeanwhile: the Job of a claim is made where the claim says, whatever
// the deployment says since; a claim that says nothing follows its deployment.
func TestRedeployedMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		message bool
		want    string
	}{"the claim names the place": {true, "dev/first-"}, "the claim is an older one": {false, "default/second-"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.change = func(o *dispatch.Options) {
				envInASecret(o)
				o.Namespaces = []string{"default", "dev"}
			}
			id, deployment := w.orphanOf(doc{"name": "first", "namespace": "dev"})
			if granted := w.state(id).State; !c.message {
				w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": w.newClaim(id), "scheduled_time": granted.Details.ScheduledTime.Format(time.RFC3339Nano)}})
			}
			w.redeploy(deployment, doc{"name": "second", "namespace": "default"})
			if r := w.sweep(); r.Repaired != 1 || w.jobsOf(id) != 1 {
				t.Fatalf("%+v, %d Jobs", r, w.jobsOf(id))
			}
			for name := range w.kube.Jobs() {
				namespace, _, _ := strings.Cut(name, "/")
				if run := w.state(id); !strings.HasPrefix(name, c.want) || run.InfrastructurePID != strings.Replace(name, "/", ":", 1) {
					t.Errorf("Job %s, pid %s", name, run.InfrastructurePID)
				}
				refers, _ := json.Marshal(w.kube.Jobs()[name])
				there := 0
				for secret := range w.kube.Secrets() {
					if in, name, _ := strings.Cut(secret, "/"); in == namespace && bytes.Contains(refers, []byte(`"`+name+`"`)) {
						there++
					}
				}
				if there != 1 {
					t.Errorf("the Job %s does not find its Secret among %d", name, len(w.kube.Secrets()))
				}
			}
		})
	}
}

// TestRedeployedAfterTheJob: a Job that was made and not reported is found where the
// claim says, and nothing is made twice.
func TestRedeployedAfterTheJob(t *testing.T) {
	for name, rights := range map[string]func(w *world){"everywhere": func(*world) {}, "in namespaces": (*world).namespaced} {
		t.Run("rights "+name, func(t *testing.T) {
			w := newWorld(t)
			w.change = func(o *dispatch.Options) { o.Namespaces = []string{"default"} }
			deployment := w.prefect.AddDeployment(pool, "etl", "special", doc{"job_variables": doc{"name": "first", "namespace": "dev"}})
			id := w.prefect.AddRun(deployment, time.Now().Add(-time.Second), nil)
			line := only(w.pass(), t)
			w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
			w.redeploy(deployment, doc{"name": "second", "namespace": "default"})
			rights(w)
			r := w.sweep()
			if w.jobsOf(id) != 1 || row(r, id).Action != dispatch.WritePID || w.state(id).InfrastructurePID != "dev:"+line.Job {
				t.Errorf("%+v: %d Jobs, pid %q", r, w.jobsOf(id), w.state(id).InfrastructurePID)
			}
		})
	}
}

// TestSecretOfAnOrphan: a sweep never gives a claim of Slipway's back, nor takes away
// the Secret that a Job made beside it reads.
func TestSecretOfAnOrphan(t *testing.T) {
	failing := func(w *world, next func()) {
		w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/secrets") || r.Method == http.MethodDelete {
				return false
			}
			next()
			kubetest.Refuse(rw, 500, "InternalError", "etcdserver: request timed out", nil)
			return true
		})
	}
	t.Run("cannot be written", func(t *testing.T) {
		w := newWorld(t)
		id := w.orphan()
		w.change = envInASecret
		failing(w, func() {})
		for range 2 {
			if r := w.sweep(); w.state(id).StateType != "PENDING" || r.Repaired != 0 {
				t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
			}
		}
		if n := w.lines("is still not created: JobNotCreated: create Secret"); n != 1 {
			t.Errorf("%d lines tell why", n)
		}
	})
	t.Run("written by another sweep", func(t *testing.T) {
		w := newWorld(t)
		id := w.orphan()
		w.change = envInASecret
		var once atomic.Bool
		failing(w, func() {
			if once.Swap(true) {
				return
			}
			w.kube.Intercept(nil)
			w.sweep()
			failing(w, func() {})
		})
		w.sweep()
		w.kube.Intercept(nil)
		if len(w.kube.Secrets()) != 1 || w.jobsOf(id) != 1 || w.state(id).StateType != "PENDING" {
			t.Errorf("%d Secrets, %d Jobs, the run is %s", len(w.kube.Secrets()), w.jobsOf(id), w.state(id).StateType)
		}
	})
}
