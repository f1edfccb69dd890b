package dispatch_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
)

// failClaims answers claims on these runs by a status; on all runs if none is named.
func (w *world) failClaims(status int, ids ...string) {
	w.onPrefect(func(rw http.ResponseWriter, r *http.Request) bool {
		if !proposes(r, "PENDING") {
			return false
		}
		for _, id := range ids {
			if strings.Contains(r.URL.Path, id) {
				rw.WriteHeader(status)
				return true
			}
		}
		if len(ids) == 0 {
			rw.WriteHeader(status)
		}
		return len(ids) == 0
	})
}

// TestOneRunFailsItsClaims: a run on which the server fails without end keeps no other
// from being claimed, and its log says so, once.
func TestOneRunFailsItsClaims(t *testing.T) {
	for _, c := range []struct{ status, concurrency int }{{500, 1}, {500, 8}, {422, 8}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			w := newWorld(t)
			w.change = func(o *dispatch.Options) { o.Concurrency = c.concurrency }
			bad := w.prefect.AddRun(w.deployment, time.Now().Add(-time.Minute), nil)
			others := w.runs(5)
			w.failClaims(c.status, bad)
			for range 2 {
				r := w.pass()
				if r.Failed != 1 || w.state(bad).StateType != "SCHEDULED" {
					t.Errorf("%+v, the run is %s", r, w.state(bad).StateType)
				}
			}
			for _, id := range others {
				if w.jobsOf(id) != 1 {
					t.Errorf("run %s has %d Jobs", id, w.jobsOf(id))
				}
			}
			if n := w.lines("Slipway could not claim this flow run: "); n != 1 {
				t.Errorf("%d lines tell why", n)
			}
			w.onPrefect(nil)
			if w.pass(); w.jobsOf(bad) != 1 {
				t.Errorf("once the server takes it: %d Jobs", w.jobsOf(bad))
			}
		})
	}
}

// TestFailedClaims: after three in a row only some of that deployment's runs are tried,
// while the server still answers reads. What is due behind them is claimed, in the same
// deployment after a few passes, and the sweep runs.
func TestFailedClaims(t *testing.T) {
	for _, status := range []int{500, 403} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w := newWorld(t)
			w.change = func(o *dispatch.Options) { o.Concurrency = 1 }
			bad := w.runs(20)
			behind := w.prefect.AddRun(w.prefect.AddDeployment(pool, "etl", "behind", nil), time.Now(), nil)
			w.failClaims(status, bad...)
			r := w.pass(func(r *dispatch.Request) { r.Sweep = true })
			if r.Failed < 3 || r.Failed+r.Skipped != 20 || r.Submitted != 1 || w.jobsOf(behind) != 1 || r.Sweep == nil {
				t.Errorf("%+v", r)
			}
			last := w.run()
			for passes := 0; w.jobsOf(last) == 0; passes++ {
				if w.pass(); passes == 200 {
					t.Fatal("a run behind them is never tried")
				}
			}
		})
	}
}

// TestServerGoesAway: a claim without an answer, and a run that cannot be read, end the
// pass.
func TestServerGoesAway(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) { o.Concurrency = 1 }
	w.runs(10)
	w.onPrefect(func(rw http.ResponseWriter, r *http.Request) bool {
		away := proposes(r, "PENDING") || r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/api/flow_runs/")
		if away {
			rw.WriteHeader(http.StatusInternalServerError)
		}
		return away
	})
	r, err := w.tryPass(t.Context())
	if dispatch.KindOf(err) != dispatch.Unavailable || r.Unknown != 1 || len(r.Runs) != 1 || r.Error == "" {
		t.Errorf("%+v: %v", r, err)
	}
}

// TestSweepAfterClaiming: repair does not depend on the claiming before it, unless the
// credentials are refused.
func TestSweepAfterClaiming(t *testing.T) {
	for status, sweeps := range map[int]bool{500: true, 503: true, 422: true, 401: false, 403: false} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w := newWorld(t)
			id, job := w.submitted()
			w.force(id, "RUNNING")
			w.kube.Change(job, endedAt("Failed", time.Now()))
			w.onPrefect(func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/get_scheduled_flow_runs") {
					return false
				}
				rw.WriteHeader(status)
				return true
			})
			r, err := w.tryPass(t.Context(), func(r *dispatch.Request) { r.Sweep = true })
			if err == nil || (r.Sweep != nil) != sweeps || (w.state(id).StateType == "CRASHED") != sweeps {
				t.Errorf("sweep %+v, the run is %s: %v", r.Sweep, w.state(id).StateType, err)
			}
		})
	}
}

const webhookDown = `Internal error occurred: failed calling webhook "validate.example": connection refused`

// TestCreationFailsWithoutEnd: the run's log says why it has no Job, once by its owner and
// once by a sweep; no sweep spends more than two attempts on it; and when sweeps have met
// that for as long as the limit, it is CRASHED.
func TestCreationFailsWithoutEnd(t *testing.T) {
	for name, c := range map[string]struct {
		limits  map[string]time.Duration
		crashes time.Duration
	}{
		"after a quarter of an hour": {nil, 16 * time.Minute},
		"after the limit given":      {map[string]time.Duration{"JobNotCreated": 5 * time.Minute}, 6 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.change = func(o *dispatch.Options) { o.Concurrency, o.Sleep, o.StartLimits = 1, w.waiting, c.limits }
			ids := w.runs(3)
			w.refusePosts(500, "InternalError", webhookDown)
			r := w.pass()
			if r.Unknown != 1 || r.Skipped != 2 || !strings.Contains(r.Runs[1].Reason, "because of what an earlier run met") {
				t.Fatalf("%+v", r)
			}
			tries := w.kubePosts("/jobs")
			w.waited.Store(0)
			for _, after := range []time.Duration{2 * time.Minute, c.crashes - 2*time.Minute} {
				w.sweepIn(after, pool)
			}
			if n := w.kubePosts("/jobs") - tries; n != 4 || w.state(ids[0]).StateType != "PENDING" {
				t.Errorf("two sweeps made %d attempts, the run is %s", n, w.state(ids[0]).StateType)
			}
			if n := w.lines("JobNotCreated: "); n != 2 || w.lines(" still not created: ") != 1 || w.lines("failed calling webhook") != 2 {
				t.Errorf("%d lines tell why there is no Job", n)
			}
			w.sweepIn(c.crashes+2*time.Minute, pool)
			if run := w.state(ids[0]); run.StateType != "CRASHED" || !strings.Contains(run.State.Message, "failed calling webhook") {
				t.Errorf("in the end the run is %s: %s", run.StateType, run.State.Message)
			}
		})
	}
}

// TestOneFailsToBeCreated: a sweep serves the others beside a claim whose Job cannot be
// made.
func TestOneFailsToBeCreated(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) { o.Sleep = w.waiting }
	stuck := w.orphan()
	w.change = func(o *dispatch.Options) { o.Sleep = w.waiting }
	cancelled := w.run()
	w.force(cancelled, "RUNNING", "CANCELLING")
	w.refusePosts(500, "InternalError", webhookDown)
	w.sweepIn(5*time.Minute, pool)
	if w.state(stuck).StateType != "PENDING" || w.state(cancelled).StateType != "CANCELLED" {
		t.Errorf("%s, %s", w.state(stuck).StateType, w.state(cancelled).StateType)
	}
}
