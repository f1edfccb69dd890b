package dispatch_test

import (
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
)

// limits are those of SLIPWAY_START_LIMITS.
func limits(category string, limit time.Duration) func(*dispatch.Options) {
	return func(o *dispatch.Options) { o.StartLimits = map[string]time.Duration{category: limit} }
}

// warningEvent is one of the cluster, first and last seen so long from now.
func warningEvent(reason, message string, first, last time.Duration) doc {
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	return doc{"metadata": doc{"name": "x", "namespace": "dev"}, "type": "Warning", "reason": reason, "message": message, "count": 3, "firstTimestamp": at(first), "lastTimestamp": at(last)}
}

// youngPod is a pod of a Job that was created so long from now and has met its cause
// then.
func (w *world) youngPod(recorded, job string, created time.Duration) doc {
	w.t.Helper()
	pod := w.recordedPod(recorded, job[strings.LastIndex(job, "/")+1:])
	at := time.Now().Add(created).UTC().Format(time.RFC3339)
	pod["metadata"].(doc)["creationTimestamp"] = at
	for _, c := range pod["status"].(doc)["conditions"].([]any) {
		c.(doc)["lastTransitionTime"] = at
	}
	return pod
}

// TestLimitCountsFromTheCause: a limit counts from when the pod began to be kept from
// starting for this cause, however old the Job is.
func TestLimitCountsFromTheCause(t *testing.T) {
	w := newWorld(t)
	w.change = limits("ImagePullError", 10*time.Minute)
	id, job := w.waitingRun("image-pull")
	w.answerLists([]any{w.youngPod("image-pull", job, time.Hour-5*time.Second)}, nil)
	if r := w.sweep(); row(r, id).Action != dispatch.Tell || w.state(id).StateType != "PENDING" {
		t.Errorf("a pod of 5 s: %+v, the run is %s", r, w.state(id).StateType)
	}
	if r := w.sweepIn(time.Hour+9*time.Minute, pool); w.state(id).StateType != "PENDING" {
		t.Errorf("a pod of 9 minutes: %+v", r)
	}
	if r := w.sweepIn(time.Hour+11*time.Minute, pool); row(r, id).Action != dispatch.Crash || w.state(id).StateType != "CRASHED" {
		t.Errorf("a pod of 11 minutes: %+v, the run is %s", r, w.state(id).StateType)
	}
}

// TestVolumeNotReady: only events say why a pod without its volumes does not start. The
// run's log has it once, and a limit ends it.
func TestVolumeNotReady(t *testing.T) {
	const words = `MountVolume.SetUp failed for volume "config" : configmap "missing" not found`
	w := newWorld(t)
	w.change = limits("VolumeNotReady", 30*time.Minute)
	id, job := w.waitingRun("too-big")
	pod := w.youngPod("too-big", job, 0)
	pod["status"].(doc)["conditions"] = []any{doc{"type": "PodScheduled", "status": "True", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339)}}
	w.answerLists([]any{pod}, []any{warningEvent("FailedMount", words, time.Minute, 20*time.Minute)})
	for range 2 {
		if r := w.sweepIn(20*time.Minute, pool); row(r, id).Action != dispatch.Tell || !strings.Contains(row(r, id).Reason, words) {
			t.Fatalf("%+v", r)
		}
	}
	if n := w.lines("does not start: VolumeNotReady: " + words); n != 1 {
		t.Errorf("%d lines tell of the volume", n)
	}
	if first, others := w.why(id); !strings.Contains(first, words) {
		t.Errorf("first: %s, then: %s", first, others)
	}
	w.sweepIn(32*time.Minute, pool)
	if run := w.state(id); run.StateType != "CRASHED" || !strings.Contains(run.State.Message, words) {
		t.Errorf("the run is %s: %s", run.StateType, run.State.Message)
	}
	if r := w.sweep(); row(r, id).Action != dispatch.DeleteJob || w.jobsOf(id) != 0 {
		t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
	}
}

// TestJobWithoutPods: a quota, or another refusal of its pods, is found in the Job's
// events, and limited like all else.
func TestJobWithoutPods(t *testing.T) {
	for category, words := range map[string]string{
		"QuotaExceeded":  `Error creating: pods "x-abcde" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0`,
		"PodsNotCreated": `Error creating: pods "x-abcde" is forbidden: error looking up service account dev/flows: serviceaccount "flows" not found`,
	} {
		t.Run(category, func(t *testing.T) {
			w := newWorld(t)
			w.change = limits(category, 30*time.Minute)
			id, _ := w.waitingRun("", warningEvent("FailedCreate", words, time.Minute, 20*time.Minute))
			if r := w.sweepIn(20*time.Minute, pool); row(r, id).Action != dispatch.Tell || !strings.Contains(row(r, id).Reason, category+": "+words) {
				t.Errorf("%+v", r)
			}
			if r := w.sweepIn(35*time.Minute, pool); row(r, id).Action != dispatch.Crash || !strings.Contains(w.state(id).State.Message, words) {
				t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
			}
		})
	}
	t.Run("suspended", func(t *testing.T) {
		w := newWorld(t)
		w.change = limits("QuotaExceeded", time.Minute)
		id, job := w.waitingRun("")
		w.kube.Change(job, func(d doc) { d["spec"].(doc)["suspend"] = true })
		if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "PENDING" {
			t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
		}
	})
}

// TestRetryBesideAStuckJob: a retry waits for the Job of the attempt that is over; the
// sweep deletes that Job, and the next pass claims the run.
func TestRetryBesideAStuckJob(t *testing.T) {
	w := newWorld(t)
	w.change = limits("ImagePullError", time.Minute)
	id, _ := w.waitingRun("image-pull")
	if w.sweep(); w.state(id).StateType != "CRASHED" {
		t.Fatalf("the run is %s", w.state(id).StateType)
	}
	w.retry(id)
	if line := only(w.pass(), t); line.Outcome != dispatch.Skipped || w.jobsOf(id) != 1 {
		t.Errorf("beside its stuck Job: %+v, %d Jobs", line, w.jobsOf(id))
	}
	if r := w.sweep(); row(r, id).Action != dispatch.DeleteJob || w.jobsOf(id) != 0 {
		t.Errorf("%+v, %d Jobs", r, w.jobsOf(id))
	}
	if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 {
		t.Errorf("%+v, %d Jobs", line, w.jobsOf(id))
	}
}

// TestSuspendedBesideAHangingPod: a run that is resumed while the pod of its suspended
// attempt hangs does not wait for that pod without end.
func TestSuspendedBesideAHangingPod(t *testing.T) {
	w := newWorld(t)
	id, job := w.submitted()
	w.pod("healthy", job)
	w.force(id, "RUNNING")
	w.prefect.Force(id, doc{"type": "PAUSED", "name": "Suspended"})
	if r := w.sweep(); r.Repaired != 0 || w.jobsOf(id) != 1 {
		t.Errorf("suspended: %+v, %d Jobs", r, w.jobsOf(id))
	}
	w.prefect.Force(id, doc{"type": "SCHEDULED", "name": "Resuming"})
	if r := w.sweepIn(10*time.Second, pool); r.Repaired != 0 || w.jobsOf(id) != 1 {
		t.Errorf("resumed a moment ago: %+v, %d Jobs", r, w.jobsOf(id))
	}
	w.sweep()
	if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 {
		t.Errorf("%+v, %d Jobs", line, w.jobsOf(id))
	}
}
