package dispatch_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slipway/dispatch"
)

// TestSlowAnswersClaimAllTheSame: whatever a server takes its time for, the run gets
// its Job, and the server is not asked without end.
func TestSlowAnswersClaimAllTheSame(t *testing.T) {
	prefectSlow := func(paths ...string) func(*world) {
		return func(w *world) {
			w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
				for _, path := range paths {
					if strings.Contains(r.URL.Path, path) {
						w.wait(6 * time.Second)
					}
				}
				return false
			})
		}
	}
	for name, slow := range map[string]func(*world){
		"the poll":            prefectSlow("/get_scheduled_flow_runs"),
		"what runs belong to": prefectSlow("/deployments/filter", "/flows/filter"),
		"variables":           prefectSlow("/variables/"),
		"claims":              prefectSlow("/set_state"),
		"everything":          prefectSlow("/"),
		"lists of Jobs": func(w *world) {
			w.kube.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/jobs") {
					w.wait(6 * time.Second)
				}
				return false
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.change = func(o *dispatch.Options) { o.Concurrency = 1 }
			w.prefect.AddVariable("tag", "1")
			d := w.prefect.AddDeployment(pool, "etl", "refers", doc{"job_variables": doc{"image": "i:{{ prefect.variables.tag }}"}})
			first, retried := w.prefect.AddRun(d, time.Now().Add(-time.Minute), nil), w.run()
			w.force(retried, "PENDING", "RUNNING", "FAILED")
			w.prefect.Force(retried, doc{"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": doc{"scheduled_time": time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)}})
			slow(w)
			r := w.pass()
			if w.jobsOf(first) != 1 || w.jobsOf(retried) != 1 {
				t.Errorf("the first attempt has %d Jobs, the retried run %d: %+v", w.jobsOf(first), w.jobsOf(retried), r)
			}
			if n := w.posts("/get_scheduled_flow_runs"); n > 8 {
				t.Errorf("%d polls", n)
			}
		})
	}
}

// TestStalePagesAreDiscarded: a run that was taken, or put off, while a page got old is
// not claimed by that page.
func TestStalePagesAreDiscarded(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	var polls atomic.Int64
	w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/get_scheduled_flow_runs"):
			polls.Add(1)
		case strings.HasSuffix(r.URL.Path, "/flows/filter") && polls.Load() == 1:
			w.wait(6 * time.Second)
			w.force(id, "PENDING", "RUNNING", "COMPLETED")
		}
		return false
	})
	if r := w.pass(); len(w.proposals("PENDING")) != 0 || w.jobsOf(id) != 0 || polls.Load() < 2 {
		t.Errorf("%d claims after %d polls: %+v", len(w.proposals("PENDING")), polls.Load(), r)
	}
}

// TestStaleBehindAnotherClaim: a page also gets old while a run waits for the claim
// before it, of the same deployment.
func TestStaleBehindAnotherClaim(t *testing.T) {
	w := newWorld(t)
	d := w.prefect.AddDeployment(pool, "etl", "limited", doc{"concurrency_limit": 2})
	w.prefect.AddVariable("tag", "1")
	refers := doc{"job_variables": doc{"image": "i:{{ prefect.variables.tag }}"}}
	first := w.prefect.AddRun(d, time.Now().Add(-2*time.Second), refers) // and so it is prepared after the second
	second := w.prefect.AddRun(d, time.Now().Add(-time.Second), nil)
	w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
		if proposes(r, "PENDING") && strings.Contains(r.URL.Path, first) {
			w.wait(6 * time.Second)
			w.force(second, "PENDING", "RUNNING", "COMPLETED")
		}
		return false
	})
	w.pass()
	if got := w.proposals("PENDING"); len(got) != 1 || w.jobsOf(second) != 0 || w.state(second).StateType != "COMPLETED" {
		t.Errorf("claims of %v; the second run is %s", got, w.state(second).StateType)
	}
}

// TestReadByItself: a run whose pages get stale each time is read just before its claim.
func TestReadByItself(t *testing.T) {
	for name, becomes := range map[string]func(w *world, id string){
		"it has ended":  func(w *world, id string) { w.force(id, "PENDING", "RUNNING", "COMPLETED") },
		"it is deleted": func(w *world, id string) { w.deleteRun(id) },
		"it is put off": func(w *world, id string) {
			w.prefect.Force(id, doc{"type": "SCHEDULED", "state_details": doc{"scheduled_time": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}})
		},
		"its engine has": func(w *world, id string) {
			w.call(http.MethodPatch, "/flow_runs/"+id, doc{"empirical_policy": doc{"retry_type": "in_process"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := w.run()
			w.force(id, "PENDING", "RUNNING", "FAILED")
			w.prefect.Force(id, doc{"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": doc{"scheduled_time": time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)}})
			lists := 0
			w.kube.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/jobs") {
					w.wait(6 * time.Second)
					if lists++; lists == 3 {
						becomes(w, id)
					}
				}
				return false
			})
			if r := w.pass(); lists < 3 || len(w.proposals("PENDING")) != 0 || len(w.kube.Jobs()) != 0 {
				t.Errorf("after %d lists: %+v", lists, r)
			}
		})
	}
}

// TestOnePoolDoesNotKeepAnother: the requests of one work pool hang; another's runs are
// served meanwhile, and the reports are in the order of the request.
func TestOnePoolDoesNotKeepAnother(t *testing.T) {
	w := newWorld(t)
	w.addPool("hangs")
	id := w.run()
	var served sync.Once
	done := make(chan struct{})
	w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/work_pools/hangs"):
			<-r.Context().Done()
			return true
		case r.Method == http.MethodPatch:
			served.Do(func() { close(done) }) // the pid, which is written last
		}
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case <-done:
		case <-time.After(2 * time.Minute):
		}
		cancel()
	}()
	reports, err := w.dispatcher().Dispatch(ctx, dispatch.Request{WorkPools: []string{"hangs", pool}})
	if len(reports) != 2 || reports[0].Pool != "hangs" || reports[1].Pool != pool {
		t.Fatalf("%+v", reports)
	}
	if reports[1].Submitted != 1 || w.jobsOf(id) != 1 || reports[0].Error == "" || dispatch.KindOf(err) != dispatch.Interrupted {
		t.Errorf("%+v: %v", reports, err)
	}
}

// TestPassEnds: a server that never answers uses up the time of a pass, and no more. The
// time is doubled until a machine is quick enough to come that far in it.
func TestPassEnds(t *testing.T) {
	for _, path := range []string{"/admin/version", "/work_pools/", "/get_scheduled_flow_runs", "/deployments/filter", "/flow_runs/filter"} {
		t.Run(path, func(t *testing.T) {
			for budget := 50 * time.Millisecond; budget < time.Minute; budget *= 2 {
				w := newWorld(t)
				w.change = func(o *dispatch.Options) { o.PassTime = budget }
				w.run()
				var hung atomic.Bool
				w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.URL.Path, path) {
						return false
					}
					hung.Store(true)
					<-r.Context().Done()
					return true
				})
				_, err := w.tryPass(t.Context(), func(r *dispatch.Request) { r.Sweep = true })
				if !hung.Load() {
					continue
				}
				if dispatch.KindOf(err) != dispatch.Unavailable || !strings.Contains(err.Error(), "SLIPWAY_PASS_TIME") {
					t.Errorf("%v", err)
				}
				return
			}
			t.Error("the pass never came that far")
		})
	}
}

// TestRepairGetsItsShare: claims that take long end at their share of the pass, and the
// sweep still runs. Here too the time is doubled.
func TestRepairGetsItsShare(t *testing.T) {
	var r dispatch.Report
	var err error
	for budget := 250 * time.Millisecond; budget < 20*time.Second; budget *= 2 {
		w := newWorld(t)
		w.change = func(o *dispatch.Options) { o.PassTime, o.Concurrency = budget, 1 }
		cancelled := w.run()
		w.force(cancelled, "RUNNING", "CANCELLING")
		w.runs(30)
		w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
			if proposes(r, "PENDING") {
				<-time.After(budget / 10)
			}
			return false
		})
		r, err = w.tryPass(t.Context(), func(r *dispatch.Request) { r.Sweep = true })
		share := r.Submitted > 0 && r.Submitted < 10 && strings.Contains(r.Error, "the next trigger") && dispatch.KindOf(err) == dispatch.Unavailable
		if share && r.Sweep != nil && w.state(cancelled).StateType == "CANCELLED" {
			return
		}
	}
	t.Errorf("%d submitted, sweep %+v: %v", r.Submitted, r.Sweep, err)
}
