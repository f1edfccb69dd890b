package dispatch_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
)

// repairs prepare a run for each action of a sweep.
var repairs = map[dispatch.Action]func(w *world) (id string){
	dispatch.WritePID: func(w *world) string {
		id, _ := w.submitted()
		w.call(http.MethodPatch, "/flow_runs/"+id, doc{"infrastructure_pid": nil})
		return id
	},
	dispatch.CreateJob: (*world).orphan,
	dispatch.PutBack: func(w *world) string {
		id := w.run()
		w.force(id, "RUNNING", "COMPLETED")
		w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": w.newClaim(id)}})
		return id
	},
	dispatch.GiveBack: func(w *world) string {
		w.change = func(o *dispatch.Options) { o.ForeignOrphanGrace = time.Minute }
		id := w.run()
		w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": workersClaim}})
		return id
	},
	dispatch.Crash: func(w *world) string {
		id, job := w.submitted()
		w.force(id, "RUNNING")
		w.kube.Change(job, endedAt("Failed", time.Now()))
		return id
	},
	dispatch.DeleteJob: func(w *world) string {
		id, _ := w.submitted()
		w.force(id, "RUNNING", "FAILED")
		return id
	},
	dispatch.Cancel: func(w *world) string {
		id := w.run()
		w.force(id, "RUNNING", "CANCELLING")
		return id
	},
}

// linesOf counts those of a run's log that hold a text.
func (w *world) linesOf(id, text string) int {
	n := 0
	for _, line := range w.prefect.Logs() {
		if line["flow_run_id"] == id && strings.Contains(line["message"].(string), text) {
			n++
		}
	}
	return n
}

// TestRepairsAreTold: each repair is a row of the report, a line of the log, and with
// its reason a line of the run's own log. A dry run says it in the report only.
func TestRepairsAreTold(t *testing.T) {
	for action, prepare := range repairs {
		t.Run(string(action), func(t *testing.T) {
			w := newWorld(t)
			id := prepare(w)
			dry := w.look(dispatch.SweepRequest{WorkPools: []string{pool}, DryRun: true})
			before := len(w.prefect.Logs())
			if row(dry, id).Action != action || row(dry, id).Done || dry.Repaired != 0 || dry.Failed != 0 || len(w.log.repairs()) != 0 {
				t.Errorf("a dry run: %+v", dry)
			}
			r := w.look(dispatch.SweepRequest{WorkPools: []string{pool}})
			told := row(r, id)
			if told.Action != action || !told.Done || told.Reason == "" || r.Repaired != 1 || r.Failed != 0 {
				t.Errorf("%+v", r)
			}
			if n := w.linesOf(id, strings.TrimSuffix(told.Reason, ".")); n != 1 {
				t.Errorf("%d lines of the run's log hold %q: %v", n, told.Reason, w.prefect.Logs()[before:])
			}
			lines := w.log.repairs()
			if len(lines) != 1 || lines[0]["flow_run_id"] != id || lines[0]["action"] != string(action) || lines[0]["done"] != true || lines[0]["reason"] != told.Reason || lines[0]["work_pool"] != pool {
				t.Errorf("%v", lines)
			}
			if again := w.look(dispatch.SweepRequest{WorkPools: []string{pool}}); again.Repaired != 0 {
				t.Errorf("a second sweep: %+v", again)
			}
		})
	}
}

// look is a sweep an hour from now.
func (w *world) look(req dispatch.SweepRequest) dispatch.SweepReport {
	w.t.Helper()
	at := w.now().Add(time.Hour)
	before := w.change
	w.change = func(o *dispatch.Options) {
		if before != nil {
			before(o)
		}
		o.Now = func() time.Time { return at }
	}
	defer func() { w.change = before }()
	reports, err := w.dispatcher().Sweep(w.t.Context(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	return reports[0]
}

// TestFailedRepairsAreTold: what could not be done is counted, and done by the next
// sweep.
func TestFailedRepairsAreTold(t *testing.T) {
	for action, prepare := range repairs {
		if action == dispatch.CreateJob || action == dispatch.DeleteJob {
			continue // those are effects on the other server
		}
		t.Run(string(action), func(t *testing.T) {
			w := newWorld(t)
			id := prepare(w)
			w.onPrefect(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPatch || strings.HasSuffix(r.URL.Path, "/set_state") {
					rw.WriteHeader(http.StatusServiceUnavailable)
					return true
				}
				return false
			})
			r := w.look(dispatch.SweepRequest{WorkPools: []string{pool}})
			if r.Failed != 1 || r.Repaired != 0 || row(r, id).Outcome == "" || w.log.repairs()[0]["done"] != false {
				t.Errorf("%+v", r)
			}
			w.onPrefect(nil)
			if r := w.look(dispatch.SweepRequest{WorkPools: []string{pool}}); r.Repaired != 1 {
				t.Errorf("the next one: %+v", r)
			}
		})
	}
}

// TestRepairsOfAPass: a pass that sweeps tells the same.
func TestRepairsOfAPass(t *testing.T) {
	w := newWorld(t)
	id := repairs[dispatch.Crash](w)
	r := w.pass(func(r *dispatch.Request) { r.Sweep = true })
	if r.Sweep == nil || r.Sweep.Repaired != 1 || len(w.log.repairs()) != 1 || w.linesOf(id, "its Job failed") != 1 {
		t.Errorf("%+v", r)
	}
}

// TestLargeLogs: behind a proxy that takes no more than 1 MiB, no line is lost for the
// size of another.
func TestLargeLogs(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) { o.CrashLogs, o.CrashLogLines = true, 500 }
	var ids []string
	var jobs []string
	for range 5 {
		id, job := w.submitted()
		w.force(id, "RUNNING")
		w.kube.Change(job, endedAt("Failed", time.Now()))
		ids, jobs = append(ids, id), append(jobs, job)
	}
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		rw.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/pods"):
			for _, job := range jobs {
				if name := job[strings.LastIndex(job, "/")+1:]; strings.Contains(r.URL.Query().Get("labelSelector"), name) {
					_ = json.NewEncoder(rw).Encode(doc{"kind": "PodList", "apiVersion": "v1", "metadata": doc{}, "items": []any{w.recordedPod("oom", name)}})
				}
			}
		case strings.HasSuffix(r.URL.Path, "/events"):
			_, _ = rw.Write([]byte(`{"kind":"EventList","apiVersion":"v1","metadata":{},"items":[]}`))
		case strings.HasSuffix(r.URL.Path, "/log"):
			_, _ = rw.Write([]byte(strings.Repeat(strings.Repeat("x", 500)+"\n", 500)))
		default:
			return false
		}
		return true
	})
	w.onPrefect(func(rw http.ResponseWriter, r *http.Request) bool {
		if len(bodyOf(r)) <= 1<<20 {
			return false
		}
		rw.WriteHeader(http.StatusRequestEntityTooLarge)
		return true
	})
	r := w.sweep()
	for _, id := range ids {
		if w.linesOf(id, "its Job failed") != 1 || w.linesOf(id, "The last lines of container") == 0 {
			t.Errorf("a run's log lacks lines: %v", r.Warnings)
		}
	}
	if r.Repaired != len(ids) || len(r.Warnings) != 0 {
		t.Errorf("%d repaired: %v", r.Repaired, r.Warnings)
	}
}
