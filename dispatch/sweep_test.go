package dispatch_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
)

// sweep makes one sweep an hour from now, when every grace is over.
func (w *world) sweep() dispatch.SweepReport {
	w.t.Helper()
	return w.sweepIn(time.Hour, pool)
}

// sweepIn makes one sweep of a work pool so long from now.
func (w *world) sweepIn(d time.Duration, pool string) dispatch.SweepReport {
	w.t.Helper()
	before := w.change
	w.change = func(o *dispatch.Options) {
		if before != nil {
			before(o)
		}
		o.Now = func() time.Time { return w.now().Add(d) }
	}
	reports, err := w.dispatcher().Sweep(w.t.Context(), dispatch.SweepRequest{WorkPools: []string{pool}})
	w.change = before
	if err != nil {
		w.t.Fatal(err)
	}
	return reports[0]
}

// orphan is a run whose dispatcher died between claim and Job.
func (w *world) orphan() string {
	w.t.Helper()
	id := w.run()
	w.die()
	if run := w.state(id); run.StateType != "PENDING" || len(w.kube.Jobs()) != 0 {
		w.t.Fatalf("the run is %s with %d Jobs", run.StateType, len(w.kube.Jobs()))
	}
	return id
}

func TestSweepMakesTheOrphansJob(t *testing.T) {
	w := newWorld(t)
	id := w.orphan()
	if r := w.sweep(); r.Repaired != 1 || w.jobsOf(id) != 1 {
		t.Fatalf("%+v, %d Jobs", r, w.jobsOf(id))
	}
	run := w.state(id)
	if !strings.HasPrefix(run.InfrastructurePID, "dev:") {
		t.Errorf("pid %q", run.InfrastructurePID)
	}
	if r := w.sweep(); r.Repaired != 0 || w.jobsOf(id) != 1 {
		t.Errorf("a second sweep: %+v, %d Jobs", r, w.jobsOf(id))
	}
}

// TestSweepLeavesFreshClaims: the owner has its time.
func TestSweepLeavesFreshClaims(t *testing.T) {
	w := newWorld(t)
	id := w.orphan()
	reports, err := w.dispatcher().Sweep(t.Context(), dispatch.SweepRequest{WorkPools: []string{pool}})
	if err != nil || reports[0].Repaired != 0 || w.jobsOf(id) != 0 {
		t.Errorf("%+v, %v", reports, err)
	}
}

func TestSweepDryRun(t *testing.T) {
	w := newWorld(t)
	id := w.orphan()
	w.change = func(o *dispatch.Options) { o.Now = func() time.Time { return time.Now().Add(time.Hour) } }
	reports, err := w.dispatcher().Sweep(t.Context(), dispatch.SweepRequest{WorkPools: []string{pool}, DryRun: true})
	if err != nil || reports[0].Repaired != 0 || w.jobsOf(id) != 0 || reports[0].Rows[0].Action != dispatch.CreateJob {
		t.Errorf("%+v, %v", reports, err)
	}
}

// submitted is a run with its Job's key in kubetest.
func (w *world) submitted() (id, job string) {
	w.t.Helper()
	id = w.run()
	line := only(w.pass(), w.t)
	if line.Outcome != dispatch.Submitted {
		w.t.Fatalf("%+v", line)
	}
	return id, "jobs/dev/" + line.Job
}

func ended(kind string) func(doc) {
	return func(job doc) {
		job["status"] = doc{"conditions": []any{doc{"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit",
			"lastTransitionTime": time.Now().UTC().Format(time.RFC3339)}}}
	}
}

func TestSweepCrashes(t *testing.T) {
	for name, c := range map[string]struct {
		state   string
		happens func(w *world, job string)
		want    string
	}{
		"failed while pending":  {"PENDING", func(w *world, job string) { w.kube.Change(job, ended("Failed")) }, "its Job failed: BackoffLimitExceeded"},
		"failed while running":  {"RUNNING", func(w *world, job string) { w.kube.Change(job, ended("Failed")) }, "its Job failed: BackoffLimitExceeded"},
		"ended without a word":  {"RUNNING", func(w *world, job string) { w.kube.Change(job, ended("Complete")) }, "its Job completed but the flow run never reached a terminal state"},
		"deleted while pending": {"PENDING", func(w *world, job string) { w.kube.Remove(job) }, "its Job was deleted before it ran"},
		"deleted while running": {"RUNNING", func(w *world, job string) { w.kube.Remove(job) }, "its Job was deleted while it ran"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			if c.state == "RUNNING" {
				w.prefect.Force(id, doc{"type": "RUNNING"})
			}
			if r := w.sweep(); r.Repaired != 0 {
				t.Errorf("before anything happened: %+v", r)
			}
			c.happens(w, job)
			r := w.sweep()
			run := w.state(id)
			if r.Repaired != 1 || run.StateType != "CRASHED" || !strings.Contains(run.State.Message, c.want) {
				t.Errorf("%+v; the run is %s: %s", r, run.StateType, run.State.Message)
			}
			if r := w.sweep(); r.Repaired != 0 {
				t.Errorf("a second sweep: %+v", r)
			}
		})
	}
}

func TestSweepCancels(t *testing.T) {
	for _, state := range []string{"PENDING", "RUNNING"} {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t)
			id, _ := w.submitted()
			if state == "RUNNING" {
				w.prefect.Force(id, doc{"type": "RUNNING"})
			}
			w.prefect.Force(id, doc{"type": "CANCELLING"})
			if r := w.sweep(); r.Repaired != 1 || len(w.kube.Jobs()) != 0 || w.state(id).StateType != "CANCELLING" {
				t.Fatalf("%+v, %d Jobs, the run is %s", r, len(w.kube.Jobs()), w.state(id).StateType)
			}
			if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CANCELLED" {
				t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
			}
		})
	}
}

// call sends a request to Prefect, as a user or an engine would.
func (w *world) call(method, path string, body any) {
	w.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.prefect.URL+path, bytes.NewReader(data))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode >= 300 {
		w.t.Fatalf("%s %s: HTTP %d", method, path, resp.StatusCode)
	}
}

func (w *world) deleteRun(id string) { w.call(http.MethodDelete, "/flow_runs/"+id, nil) }

func TestSweepRemovesLeftovers(t *testing.T) {
	for name, happens := range map[string]func(w *world, id string){
		"terminal": func(w *world, id string) { w.prefect.Force(id, doc{"type": "CRASHED"}) },
		"deleted":  func(w *world, id string) { w.deleteRun(id) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, _ := w.submitted()
			happens(w, id)
			if r := w.sweep(); r.Repaired != 1 || len(w.kube.Jobs()) != 0 {
				t.Errorf("%+v, %d Jobs", r, len(w.kube.Jobs()))
			}
		})
	}
}

// TestSweepLeavesOthersAlone: a worker's claim and a worker's Job are its own.
func TestSweepLeavesOthersAlone(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": "11111111-1111-4111-8111-111111111111"}})
	if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "PENDING" || r.Rows[0].Action != dispatch.LeaveAlone {
		t.Errorf("%+v", r)
	}
	w.change = func(o *dispatch.Options) { o.ForeignOrphanGrace = 10 * time.Minute }
	if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "SCHEDULED" {
		t.Errorf("told to: %+v", r)
	}
}

// TestSweepWithoutTheList: absence from a list proves nothing, and a read by name does.
func TestSweepWithoutTheList(t *testing.T) {
	w := newWorld(t)
	id, job := w.submitted()
	w.kube.Remove(job)
	broken := "/jobs"
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, broken) {
			w.kube.Break(rw)
			return true
		}
		return false
	})
	if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "PENDING" || len(r.Warnings) == 0 {
		t.Errorf("nothing of Jobs can be read: %+v, the run is %s", r, w.state(id).StateType)
	}
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/jobs") {
			w.kube.Break(rw)
			return true
		}
		return false
	})
	if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CRASHED" || len(r.Warnings) == 0 {
		t.Errorf("only lists fail: %+v, the run is %s", r, w.state(id).StateType)
	}
}

// TestSweepAsksTwice: a list that leaves a run out does not make it deleted.
func TestSweepAsksTwice(t *testing.T) {
	w := newWorld(t)
	id, _ := w.submitted()
	w.prefect.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/flow_runs/filter") {
			_, _ = rw.Write([]byte("[]"))
			return true
		}
		return false
	})
	if r := w.sweep(); r.Repaired != 0 || w.jobsOf(id) != 1 {
		t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
	}
}
