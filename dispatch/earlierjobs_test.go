package dispatch_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/dispatch/claim"
	"slipway/kube/kubetest"
)

// podsOf answers lists of pods by the Job that they are of.
func (w *world) podsOf(pods map[string][]any) {
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/pods") {
			return false
		}
		items := []any{}
		for job, of := range pods {
			if strings.Contains(r.URL.Query().Get("labelSelector"), job[strings.LastIndex(job, "/")+1:]) {
				items = append(items, of...)
			}
		}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(doc{"kind": "PodList", "apiVersion": "v1", "metadata": doc{}, "items": items})
		return true
	})
}

// evictedAndStuck are the pods of a Job whose first one was evicted and whose second one
// finds no node.
func (w *world) evictedAndStuck(job string) {
	w.t.Helper()
	w.kube.Change(job, func(d doc) { d["status"] = doc{"active": 1.0, "failed": 1.0} })
	name := job[strings.LastIndex(job, "/")+1:]
	w.answerLists([]any{w.recordedPod("evicted", name), w.recordedPod("tainted", name)}, nil)
}

// TestKeptPodHasStartedNothing: of the pods of a Job only those that live count as
// started.
func TestKeptPodHasStartedNothing(t *testing.T) {
	t.Run("put back by its engine", func(t *testing.T) {
		w := newWorld(t)
		w.change = limits("Unschedulable", time.Minute)
		id, job := w.submitted()
		w.evictedAndStuck(job)
		w.force(id, "RUNNING")
		w.retry(id)
		if r := w.sweep(); row(r, id).Action != dispatch.DeleteJob || w.jobsOf(id) != 0 {
			t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
		}
		w.kube.Intercept(nil)
		if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 {
			t.Errorf("%+v, %d Jobs", line, w.jobsOf(id))
		}
	})
	t.Run("CRASHED", func(t *testing.T) {
		w := newWorld(t)
		id, job := w.submitted()
		w.evictedAndStuck(job)
		w.force(id, "RUNNING", "CRASHED")
		if r := w.sweep(); row(r, id).Action != dispatch.DeleteJob || w.jobsOf(id) != 0 {
			t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
		}
	})
	t.Run("beside another Job", func(t *testing.T) {
		w := newWorld(t)
		id, job := w.submitted()
		w.force(id, "RUNNING", "FAILED")
		w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
		w.claimedAt(id, "dev")
		w.force(id, "RUNNING")
		w.evictedAndStuck(job)
		w.podsOf(map[string][]any{job: {w.recordedPod("evicted", job), w.recordedPod("tainted", job)}})
		if r := w.sweep(); row(r, id).Action != dispatch.DeleteJob || w.jobsOf(id) != 0 {
			t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
		}
		w.kube.Intercept(nil)
		if r := w.sweep(); row(r, id).Action != dispatch.Crash || w.state(id).StateType != "CRASHED" {
			t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
		}
	})
}

// claimedAt puts a run under a further claim whose Job is gone, and was in a namespace.
func (w *world) claimedAt(id, namespace string) {
	w.t.Helper()
	transition := w.newClaim(id)
	place := claim.Place{Namespace: namespace, Name: claim.JobName("x-", transition)}
	w.prefect.Force(id, doc{"type": "PENDING", "message": claim.Message(place), "state_details": doc{"transition_id": transition, "scheduled_time": time.Now().UTC().Format(time.RFC3339Nano)}})
}

// TestFailedJobWhosePodLives: an API server that calls a Job failed while its pod has time
// to end is not acted on at once: the engine would put the CRASHED run back.
func TestFailedJobWhosePodLives(t *testing.T) {
	for _, state := range []string{"PENDING", "RUNNING"} {
		for name, c := range map[string]struct {
			pod   string
			after time.Duration
			want  string
		}{
			"a moment ago":                {"healthy", 70 * time.Second, state},
			"a moment ago, its pod ended": {"exit-code", 70 * time.Second, "CRASHED"},
			"longer ago":                  {"healthy", 100 * time.Second, "CRASHED"},
		} {
			t.Run(state+", "+name, func(t *testing.T) {
				w := newWorld(t)
				id, job := w.submitted()
				if state == "RUNNING" {
					w.force(id, "RUNNING")
				}
				w.pod(c.pod, job)
				w.kube.Change(job, endedAt("Failed", time.Now().Add(time.Minute)))
				if r := w.sweepIn(c.after, pool); w.state(id).StateType != c.want || r.Failed != 0 {
					t.Errorf("%+v, the run is %s, want %s", r, w.state(id).StateType, c.want)
				}
			})
		}
	}
}

// TestEarlierJobThatNoListShows: a Job of an earlier claim, of which neither a list nor
// the pid tells, may be the one that executes the run. So may the pod of one that is gone.
func TestEarlierJobThatNoListShows(t *testing.T) {
	for name, hide := range map[string]func(w *world, id, job string){
		"its claim says where": func(w *world, id, _ string) {
			w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
			w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/jobs") {
					kubetest.Refuse(rw, 503, "ServiceUnavailable", "apiserver is shutting down", nil)
					return true
				}
				return false
			})
		},
		"gone, and its pod lives": func(w *world, _, job string) {
			w.podsOf(map[string][]any{job: {w.recordedPod("healthy", job)}})
			w.kube.Remove(job)
		},
		"gone, and its pod lives, and there is no pid": func(w *world, id, job string) {
			w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
			w.podsOf(map[string][]any{job: {w.recordedPod("healthy", job)}})
			w.kube.Remove(job)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			w.force(id, "RUNNING")
			w.claimedAt(id, "dev") // on a page out of date
			w.force(id, "RUNNING") // the engine goes on
			hide(w, id, job)
			jobs := w.jobsOf(id)
			if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "RUNNING" || w.jobsOf(id) != jobs {
				t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
			}
			w.kube.Intercept(nil)
			w.kube.Remove(job)
			if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CRASHED" {
				t.Errorf("once all is gone: %+v, the run is %s", r, w.state(id).StateType)
			}
		})
	}
}

// TestRunningAfterItsEnginesRetry: the server keeps saying that an engine tries again
// while the further try runs. A Job that failed ends it all the same.
func TestRunningAfterItsEnginesRetry(t *testing.T) {
	for _, end := range []string{"Failed", "Complete", ""} {
		w := newWorld(t)
		id, job := w.ownRetry()
		w.force(id, "RUNNING")
		if run := w.state(id); run.EmpiricalPolicy.RetryType != "in_process" {
			t.Fatalf("%+v", run.EmpiricalPolicy)
		}
		if r := w.sweep(); r.Repaired != 0 {
			t.Errorf("while its Job is active: %+v", r)
		}
		if end == "" {
			w.kube.Remove(job)
		} else {
			w.kube.Change(job, endedAt(end, time.Now()))
		}
		if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CRASHED" {
			t.Errorf("%q: %+v, the run is %s", end, r, w.state(id).StateType)
		}
	}
}

// TestExplainKnowsEarlierJobs: what only a list shows to the sweep is known to it too.
func TestExplainKnowsEarlierJobs(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submitted()
	w.force(id, "RUNNING")
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
	w.claimedAt(id, "dev")
	told := row(w.look(dispatch.SweepRequest{WorkPools: []string{pool}, DryRun: true}), id)
	w.change = func(o *dispatch.Options) { o.Now = func() time.Time { return w.now().Add(time.Hour) } }
	if first, others := w.why(id); !strings.Contains(first+"; "+others, told.Reason) {
		t.Errorf("%s; %s\nthe sweep says %q: %s", first, others, told.Action, told.Reason)
	}
}
