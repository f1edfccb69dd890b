package dispatch_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
)

// recordedPod is one of package kube's, as that of a Job.
func (w *world) recordedPod(name, job string) doc {
	w.t.Helper()
	data, err := os.ReadFile("../kube/testdata/pods.json")
	if err != nil {
		w.t.Fatal(err)
	}
	var pods map[string]doc
	if err := json.Unmarshal(data, &pods); err != nil {
		w.t.Fatal(err)
	}
	pods[name]["metadata"].(doc)["labels"].(doc)["job-name"] = job
	return pods[name]
}

// answerLists answers lists of pods and of events.
func (w *world) answerLists(pods, events []any) {
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		items, kind := pods, "PodList"
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			items, kind = events, "EventList"
		case !strings.HasSuffix(r.URL.Path, "/pods"):
			return false
		}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(doc{"kind": kind, "apiVersion": "v1", "metadata": doc{}, "items": items})
		return true
	})
}

// waitingRun is a PENDING run whose Job has a pod, or none, for an hour.
func (w *world) waitingRun(pod string, events ...any) (id, job string) {
	w.t.Helper()
	id, job = w.submitted()
	w.kube.Change(job, func(d doc) {
		active := 1.0
		if pod == "" {
			active = 0
		}
		d["status"] = doc{"active": active}
	})
	var pods []any
	if pod != "" {
		pods = append(pods, w.recordedPod(pod, job[strings.LastIndex(job, "/")+1:]))
	}
	w.answerLists(pods, events)
	return id, job
}

// lines counts those of a run's log that hold a text.
func (w *world) lines(text string) int {
	n := 0
	for _, line := range w.prefect.Logs() {
		if strings.Contains(line["message"].(string), text) {
			n++
		}
	}
	return n
}

// TestStuckPodIsToldOnce: the reason is in the run's log, once for each change.
func TestStuckPodIsToldOnce(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) { o.PodEvents = true }
	id, job := w.waitingRun("too-big")
	for range 3 {
		r := w.sweep()
		if len(r.Rows) != 1 || r.Rows[0].Action != dispatch.Tell || r.Repaired != 0 || r.Failed != 0 || !strings.Contains(r.Rows[0].Reason, "Unschedulable.InsufficientResources: ") {
			t.Fatalf("%+v", r)
		}
	}
	if n := w.lines("Pod too-big-ctvqm does not start: Unschedulable.InsufficientResources: "); n != 1 || w.state(id).StateType != "PENDING" {
		t.Errorf("%d lines tell why, the run is %s", n, w.state(id).StateType)
	}
	pod := w.recordedPod("no-node", job[strings.LastIndex(job, "/")+1:])
	pod["metadata"].(doc)["name"] = "too-big-ctvqm"
	w.answerLists([]any{pod}, nil)
	w.sweep()
	if n := w.lines("does not start: Unschedulable.NodeAffinity: "); n != 1 {
		t.Errorf("%d lines tell of the change", n)
	}
	events := w.prefect.Events()
	if len(events) != 2 || events[0]["event"] != "prefect.kubernetes.pod.pending" || events[0]["resource"].(doc)["kubernetes.diagnosis"] != "Unschedulable.InsufficientResources" {
		t.Errorf("events: %v", events)
	}
}

// TestQuotaIsTold: a Job that gets no pod says why in its events, each of which names
// another pod; the run's log says it once.
func TestQuotaIsTold(t *testing.T) {
	w := newWorld(t)
	refused := func(pod, at string) doc {
		words := `Error creating: pods "` + pod + `" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0`
		return doc{"metadata": doc{"name": pod, "namespace": "dev"}, "type": "Warning", "reason": "FailedCreate", "message": words, "count": 3, "lastTimestamp": at}
	}
	first := refused("x-abcde", "2026-11-23T22:49:53Z")
	_, job := w.waitingRun("", first)
	r := w.sweep()
	w.answerLists(nil, []any{first, refused("x-fghij", "2026-11-23T22:50:53Z")})
	w.sweep()
	name := job[strings.LastIndex(job, "/")+1:]
	if n := w.lines("Job " + name + " does not start: QuotaExceeded: Error creating: pods"); n != 1 || r.Rows[0].Action != dispatch.Tell {
		t.Errorf("%d lines, %+v", n, r)
	}
}

// TestStartLimit: told to, a sweep ends a run whose pod cannot start, and the next
// one its Job.
func TestStartLimit(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) {
		o.StartLimits = map[string]time.Duration{"ImagePullError": time.Minute}
		o.CrashLogs, o.CrashLogLines = true, 5
	}
	id, _ := w.waitingRun("image-pull")
	r := w.sweep()
	run := w.state(id)
	if r.Repaired != 1 || run.StateType != "CRASHED" || !strings.Contains(run.State.Message, "its pod does not start") || !strings.Contains(run.State.Message, "registry.invalid/flow:1") {
		t.Fatalf("%+v; the run is %s: %s", r, run.StateType, run.State.Message)
	}
	if n := w.lines("Conditions of pod image-pull-"); n != 1 {
		t.Errorf("%d lines tell the pod's conditions", n)
	}
	if r := w.sweep(); r.Repaired != 1 || w.jobsOf(id) != 0 {
		t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
	}
}

// TestStartedPodIsWell: claimed ahead, a run is PENDING and its pod runs.
func TestStartedPodIsWell(t *testing.T) {
	w := newWorld(t)
	w.waitingRun("healthy")
	if r := w.sweep(); len(r.Rows) != 0 || r.Observed != 1 || len(r.Warnings) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestEngineRetry: a run that its engine means to try again is left to it, until
// its Job has failed and its time is past.
func TestEngineRetry(t *testing.T) {
	w := newWorld(t)
	id, job := w.submitted()
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"empirical_policy": doc{"retries": 1, "retry_delay": 0}})
	w.prefect.Force(id, doc{"type": "RUNNING"})
	w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "FAILED"}})
	if run := w.state(id); run.StateName != "AwaitingRetry" || run.EmpiricalPolicy.RetryType != "in_process" {
		t.Fatalf("the run is %s, %+v", run.StateName, run.EmpiricalPolicy)
	}
	if r := w.sweep(); r.Repaired != 0 {
		t.Errorf("while its Job is active: %+v", r)
	}
	if r := w.pass(); r.Found != 0 {
		t.Errorf("a poll returned it: %+v", r)
	}
	w.kube.Change(job, ended("Failed"))
	if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CRASHED" {
		t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
	}
}

// TestGivenBackRunIsNotSwept: AwaitingRetry without an engine is the poll's.
func TestGivenBackRunIsNotSwept(t *testing.T) {
	w := newWorld(t)
	id, job := w.submitted()
	w.kube.Change(job, ended("Failed"))
	w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "SCHEDULED", "name": "AwaitingRetry"}})
	if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "SCHEDULED" {
		t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
	}
}

// TestClockSkew: a machine whose clock is minutes off claims what is due by the
// server's clock, and takes no fresh claim for an old one.
func TestClockSkew(t *testing.T) {
	for _, skew := range []time.Duration{-7 * time.Minute, 7 * time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			w := newWorld(t)
			orphan := w.orphan()
			w.skew = skew
			early := w.prefect.AddRun(w.deployment, time.Now().Add(3*time.Minute), nil)
			due := w.run()
			if r := only(w.pass(), t); r.ID != due || r.Outcome != dispatch.Submitted || w.state(early).StateType != "SCHEDULED" {
				t.Errorf("%+v; the early run is %s", r, w.state(early).StateType)
			}
			reports, err := w.dispatcher().Sweep(t.Context(), dispatch.SweepRequest{WorkPools: []string{pool}})
			if err != nil || reports[0].Repaired != 0 || w.jobsOf(orphan) != 0 {
				t.Errorf("a fresh claim was taken for an old one: %+v, %v", reports, err)
			}
			for _, line := range w.prefect.Logs() {
				at, err := time.Parse(time.RFC3339Nano, line["timestamp"].(string))
				if err != nil || time.Since(at).Abs() > time.Minute {
					t.Errorf("a log line of %s, %v", at, err)
				}
			}
		})
	}
}
