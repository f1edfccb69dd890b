package dispatch_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
)

// startAgain are ways to start a run that has ended without a claim: on somebody's
// machine, by prefect flow-run retry --entrypoint and by prefect flow-run execute.
var startAgain = map[string]func(w *world, id string){
	"retry --entrypoint": (*world).retry,
	"execute": func(w *world, id string) {
		w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": subStates["Submitting"]})
	},
}

// endedAttempt is a run whose first attempt is over.
func (w *world) endedAttempt(end, state string) (id, job string) {
	w.t.Helper()
	id, job = w.submitted()
	w.force(id, "RUNNING")
	switch end {
	case "":
		w.kube.Remove(job)
	case "no pid":
		w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
		w.kube.Remove(job)
	default:
		w.kube.Change(job, endedAt(end, time.Now().Add(-time.Minute)))
	}
	w.force(id, state)
	return id, job
}

// TestStartedElsewhere: a run that something else than its Job has started, after the
// attempt of its claim was over, is not judged by that Job.
func TestStartedElsewhere(t *testing.T) {
	for how, start := range startAgain {
		for name, end := range map[string]string{"failed": "Failed", "completed": "Complete", "gone": "", "gone, without a pid": "no pid"} {
			t.Run(how+", its Job is "+name, func(t *testing.T) {
				w := newWorld(t)
				id, _ := w.endedAttempt(end, "FAILED")
				start(w, id)
				before := w.state(id).StateType
				if r := w.sweep(); r.Repaired != 0 || r.Failed != 0 || w.state(id).StateType != before {
					t.Errorf("before it runs: %+v, the run is %s", r, w.state(id).StateType)
				}
				w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "RUNNING"}})
				if r := w.sweep(); r.Repaired != 0 || r.Failed != 0 || w.state(id).StateType != "RUNNING" || !strings.Contains(row(r, id).Reason, "something else than its Job") {
					t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
				}
				if first, others := w.why(id); strings.Contains(first+others, "next sweep") {
					t.Errorf("%s; %s", first, others)
				}
				w.force(id, "CANCELLING")
				if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "CANCELLING" {
					t.Errorf("being cancelled: %+v, the run is %s", r, w.state(id).StateType)
				}
			})
		}
	}
}

// TestStartedAgainByItsJob: a Job that was live after the run went on is the one that
// executes it, though the run was over meanwhile: an engine puts a run that is CRASHED
// back when it is told to end.
func TestStartedAgainByItsJob(t *testing.T) {
	for _, end := range []string{"Failed", "Complete"} {
		t.Run(end, func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			w.force(id, "RUNNING", "CRASHED")
			w.retry(id)
			w.force(id, "RUNNING")
			if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != "RUNNING" || w.jobsOf(id) != 1 {
				t.Errorf("while its Job is active: %+v, the run is %s", r, w.state(id).StateType)
			}
			w.kube.Change(job, endedAt(end, time.Now().Add(time.Minute)))
			if r := w.sweep(); row(r, id).Action != dispatch.Crash || w.state(id).StateType != "CRASHED" {
				t.Errorf("once its Job has ended: %+v, the run is %s", r, w.state(id).StateType)
			}
		})
	}
}

// TestClaimedAfterElsewhere: a new claim makes the run Slipway's again.
func TestClaimedAfterElsewhere(t *testing.T) {
	w := newWorld(t)
	id, _ := w.endedAttempt("Failed", "FAILED")
	startAgain["execute"](w, id)
	w.force(id, "RUNNING", "FAILED")
	w.retry(id)
	line := only(w.pass(), t)
	if line.Outcome != dispatch.Submitted || w.jobsOf(id) != 2 {
		t.Fatalf("%+v, %d Jobs", line, w.jobsOf(id))
	}
	w.force(id, "RUNNING")
	w.kube.Change("jobs/dev/"+line.Job, endedAt("Failed", time.Now()))
	if r := w.sweep(); r.Repaired != 1 || w.state(id).StateType != "CRASHED" {
		t.Errorf("%+v, the run is %s", r, w.state(id).StateType)
	}
}
