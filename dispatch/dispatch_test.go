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
	"slipway/dispatch/claim"
	"slipway/kube/kubetest"
)

func TestDueRunGetsItsJob(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	line := only(w.pass(), t)
	if line.Outcome != dispatch.Submitted || line.Namespace != "dev" || !strings.HasPrefix(line.Job, "funky-otter-") {
		t.Fatalf("report %+v", line)
	}
	run := w.state(id)
	if run.StateType != "PENDING" || run.StateName != "Pending" || run.InfrastructurePID != "dev:"+line.Job {
		t.Errorf("the run is %s/%s with pid %q", run.StateType, run.StateName, run.InfrastructurePID)
	}
	if !claim.Verify(kubetest.ClusterUID, id, run.State.Details.TransitionID) {
		t.Errorf("the claim %q does not prove itself", run.State.Details.TransitionID)
	}
	job := w.kube.Jobs()["dev/"+line.Job]["metadata"].(doc)
	if job["annotations"].(doc)["slipway/transition-id"] != run.State.Details.TransitionID || job["generateName"] != "funky-otter-" {
		t.Errorf("the Job's metadata is %v", job)
	}
	if len(line.Warnings) != 2 || !strings.Contains(line.Warnings[0], "unknown field") {
		t.Errorf("the API server's warnings are not passed on: %q", line.Warnings)
	}
	if w.posts("/workers/heartbeat") != 1 || w.posts("/logs/") != 1 {
		t.Errorf("heartbeats %d, log posts %d; want one of each", w.posts("/workers/heartbeat"), w.posts("/logs/"))
	}
}

// TestCallsPerRun holds the price of a run: two calls to Prefect, one to Kubernetes.
func TestCallsPerRun(t *testing.T) {
	calls := func(runs int) (int, int) {
		w := newWorld(t)
		w.runs(runs)
		if r := w.pass(); r.Submitted != runs {
			t.Fatalf("submitted %d of %d", r.Submitted, runs)
		}
		return len(w.prefect.Requests()), len(w.kube.Requests())
	}
	p10, k10 := calls(10)
	p30, k30 := calls(30)
	if p30-p10 != 40 || k30-k10 != 20 {
		t.Errorf("20 more runs cost %d calls to Prefect and %d to Kubernetes; want 40 and 20", p30-p10, k30-k10)
	}
	t.Logf("a pass over 10 runs: %d calls to Prefect, %d to Kubernetes", p10, k10)
}

func TestMoreThanAPage(t *testing.T) {
	w := newWorld(t)
	w.runs(450)
	if r := w.pass(); r.Submitted != 450 || r.Found != 450 || len(w.kube.Jobs()) != 450 {
		t.Errorf("found %d, submitted %d, Jobs %d; want 450", r.Found, r.Submitted, len(w.kube.Jobs()))
	}
}

// TestRacingDispatchers: however many passes run at once, a run gets one Job.
func TestRacingDispatchers(t *testing.T) {
	w := newWorld(t)
	ids := w.runs(50)
	var submitted atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			report, err := w.tryPass(t.Context())
			if err != nil {
				t.Error(err)
			}
			submitted.Add(int64(report.Submitted))
		})
	}
	all.Wait()
	if submitted.Load() != 50 || len(w.kube.Jobs()) != 50 {
		t.Errorf("%d submitted, %d Jobs; want 50", submitted.Load(), len(w.kube.Jobs()))
	}
	for _, id := range ids {
		if n := w.jobsOf(id); n != 1 {
			t.Errorf("run %s has %d Jobs", id, n)
		}
	}
}

// TestAPIServersAnswer is the table of what the API server may say to a Job, and
// what becomes of the run.
func TestAPIServersAnswer(t *testing.T) {
	refuse := func(code int, reason, message string, details doc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			kubetest.Refuse(w, code, reason, message, details)
			return true
		}
	}
	for _, c := range []struct {
		name    string
		answer  func(http.ResponseWriter, *http.Request) bool
		outcome dispatch.Outcome
		state   string
		kind    dispatch.Kind // of the pass's error, unless it has none
		fails   bool
	}{
		{"invalid", refuse(422, "Invalid", "spec.x: bad", nil), dispatch.Refused, "CRASHED", 0, false},
		{"no such namespace", refuse(404, "NotFound", `namespaces "dev" not found`, doc{"kind": "namespaces", "name": "dev"}), dispatch.Refused, "CRASHED", 0, false},
		{"RBAC", refuse(403, "Forbidden", "jobs.batch is forbidden", nil), dispatch.Refused, "CRASHED", 0, false},
		{"quota", refuse(403, "Forbidden", "exceeded quota: q, requested", nil), dispatch.Unclaimed, "SCHEDULED", 0, false},
		{"unauthorized", refuse(401, "Unauthorized", "Unauthorized", nil), dispatch.Unclaimed, "SCHEDULED", dispatch.Denied, true},
		{"too many requests", refuse(429, "TooManyRequests", "slow down", nil), dispatch.Unclaimed, "SCHEDULED", dispatch.Unavailable, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			id := w.run()
			w.onJobPost(c.answer)
			report, err := w.tryPass(t.Context())
			if c.fails && (err == nil || dispatch.KindOf(err) != c.kind) || !c.fails && err != nil {
				t.Errorf("the pass's error is %v", err)
			}
			if line := only(report, t); line.Outcome != c.outcome {
				t.Errorf("outcome %+v, want %s", line, c.outcome)
			}
			run := w.state(id)
			if run.StateType != c.state {
				t.Errorf("the run is %s, want %s", run.StateType, c.state)
			}
			if c.outcome != dispatch.Unclaimed {
				return
			}
			if run.StateName != "AwaitingRetry" || run.NextScheduledStartTime.Before(time.Now()) || claim.IsSlipways(run.State.Details.TransitionID) {
				t.Errorf("given back as %s, due %s, with transition id %q", run.StateName, run.NextScheduledStartTime, run.State.Details.TransitionID)
			}
			w.kube.Intercept(nil)
			ahead := func(r *dispatch.Request) { r.LookAhead = time.Minute }
			if line := only(w.pass(ahead), t); line.Outcome != dispatch.Skipped || !strings.Contains(line.Reason, "next try") {
				t.Errorf("before its back-off is over: %+v", line)
			}
			w.change = func(o *dispatch.Options) { o.Now = func() time.Time { return time.Now().Add(time.Minute) } }
			if line := only(w.pass(ahead), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 {
				t.Errorf("the next pass: %+v, %d Jobs", line, w.jobsOf(id))
			}
		})
	}
}

// TestUnknownEffect: an answer that leaves open whether the Job was made is
// repeated under the same name, and never leads to a claim given back.
func TestUnknownEffect(t *testing.T) {
	t.Run("made at the second attempt", func(t *testing.T) {
		w := newWorld(t)
		id := w.run()
		var tries atomic.Int64
		w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
			if tries.Add(1) > 1 {
				return false
			}
			kubetest.Refuse(rw, 500, "InternalError", "etcdserver: request timed out", nil)
			return true
		})
		if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 {
			t.Errorf("%+v, %d Jobs", line, w.jobsOf(id))
		}
	})
	t.Run("made, and the answer lost", func(t *testing.T) {
		w := newWorld(t)
		id := w.run()
		var tries atomic.Int64
		w.onJobPost(func(rw http.ResponseWriter, r *http.Request) bool {
			if tries.Add(1) > 1 {
				return false
			}
			w.kube.LoseAnswer(rw, r)
			return true
		})
		if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 || len(w.kube.Jobs()) != 1 {
			t.Errorf("%+v, %d Jobs", line, len(w.kube.Jobs()))
		}
	})
	t.Run("never known", func(t *testing.T) {
		w := newWorld(t)
		w.change = func(o *dispatch.Options) { o.Deadline = 50 * time.Millisecond }
		id := w.run()
		w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
			kubetest.Refuse(rw, 500, "InternalError", "etcdserver: request timed out", nil)
			return true
		})
		line := only(w.pass(), t)
		if run := w.state(id); line.Outcome != dispatch.Unknown || run.StateType != "PENDING" {
			t.Errorf("%+v; the run is %s, want PENDING", line, run.StateType)
		}
	})
	t.Run("refused after an unknown one", func(t *testing.T) {
		w := newWorld(t)
		id := w.run()
		var tries atomic.Int64
		w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
			if tries.Add(1) == 1 {
				kubetest.Refuse(rw, 504, "Timeout", "timeout", nil)
			} else {
				kubetest.Refuse(rw, 403, "Forbidden", "forbidden", nil)
			}
			return true
		})
		line := only(w.pass(), t)
		if run := w.state(id); line.Outcome != dispatch.Unknown || run.StateType != "PENDING" {
			t.Errorf("%+v; the run is %s, want PENDING", line, run.StateType)
		}
	})
}

func TestForeignJobOfTheName(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	w.onJobPost(func(rw http.ResponseWriter, r *http.Request) bool {
		kubetest.Refuse(rw, 409, "AlreadyExists", "already exists", nil)
		return true
	})
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/jobs"):
			kubetest.Refuse(rw, 409, "AlreadyExists", "already exists", nil)
			return true
		case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/jobs/"):
			rw.Header().Set("Content-Type", "application/json")
			_, _ = rw.Write([]byte(`{"kind":"Job","apiVersion":"batch/v1","metadata":{"name":"x","namespace":"dev","annotations":{"slipway/transition-id":"another"}}}`))
			return true
		}
		return false
	})
	line := only(w.pass(), t)
	if run := w.state(id); line.Outcome != dispatch.Refused || run.StateType != "CRASHED" || !strings.Contains(run.State.Message, "belongs to something else") {
		t.Errorf("%+v; the run is %s: %s", line, run.StateType, run.State.Message)
	}
}

// TestLostAnswersOfPrefect: each request's answer is lost once, after it had its
// effect; there is one Job all the same.
func TestLostAnswersOfPrefect(t *testing.T) {
	for _, suffix := range []string{"/admin/version", "/get_scheduled_flow_runs", "/set_state", "/deployments/filter", "/flows/filter", "/logs/", "/workers/heartbeat", "infrastructure"} {
		t.Run(suffix, func(t *testing.T) {
			w := newWorld(t)
			id := w.run()
			var lost atomic.Bool
			w.prefect.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				hit := strings.HasSuffix(r.URL.Path, suffix) || suffix == "infrastructure" && r.Method == http.MethodPatch
				if !hit || lost.Swap(true) {
					return false
				}
				w.prefect.LoseAnswer(rw, r)
				return true
			})
			if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 || len(w.kube.Jobs()) != 1 {
				t.Errorf("%+v, %d Jobs", line, len(w.kube.Jobs()))
			}
			if !lost.Load() {
				t.Errorf("no request to %s was made", suffix)
			}
		})
	}
}

// TestClaimWithoutAnyAnswer: the server takes the claim and never answers.
func TestClaimWithoutAnyAnswer(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	w.prefect.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/set_state") {
			return false
		}
		w.prefect.LoseAnswer(rw, r)
		return true
	})
	// The read after it shows the claim as ours.
	if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || w.jobsOf(id) != 1 {
		t.Errorf("%+v, %d Jobs", line, w.jobsOf(id))
	}
}

// TestStalePage: a run that another worker took and finished after the poll is
// accepted by the server, must not run again, and gets its state back.
func TestStalePage(t *testing.T) {
	for _, former := range []string{"COMPLETED", "FAILED", "CRASHED"} {
		t.Run(former, func(t *testing.T) {
			w := newWorld(t)
			id := w.run()
			w.prefect.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/deployments/filter") {
					w.prefect.Force(id, doc{"type": former, "message": "by another"})
				}
				return false
			})
			line := only(w.pass(), t)
			run := w.state(id)
			if line.Outcome != dispatch.Skipped || run.StateType != former || run.State.Message != "by another" || len(w.kube.Jobs()) != 0 {
				t.Errorf("%+v; the run is %s %q with %d Jobs", line, run.StateType, run.State.Message, len(w.kube.Jobs()))
			}
		})
	}
}

// TestStalePageOutOfOrder: the run's last state arrived after the claim and was
// committed before it, so that its timestamp is the later one.
func TestStalePageOutOfOrder(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	w.prefect.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/deployments/filter") {
			w.prefect.Force(id, doc{"type": "RUNNING"})
			w.prefect.Force(id, doc{"type": "COMPLETED", "timestamp": time.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano)})
		}
		return false
	})
	line := only(w.pass(), t)
	if run := w.state(id); line.Outcome != dispatch.Skipped || run.StateType != "COMPLETED" || len(w.kube.Jobs()) != 0 {
		t.Errorf("%+v; the run is %s with %d Jobs", line, run.StateType, len(w.kube.Jobs()))
	}
}

// TestStalePageMovedOn: what somebody writes over a stale claim stands.
func TestStalePageMovedOn(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	w.prefect.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/deployments/filter"):
			w.prefect.Force(id, doc{"type": "FAILED"})
		case strings.HasPrefix(r.URL.Path, "/api/flow_run_states"):
			w.prefect.Force(id, doc{"type": "CANCELLED"})
		}
		return false
	})
	line := only(w.pass(), t)
	if run := w.state(id); line.Outcome != dispatch.Skipped || run.StateType != "CANCELLED" || len(w.kube.Jobs()) != 0 {
		t.Errorf("%+v; the run is %s with %d Jobs", line, run.StateType, len(w.kube.Jobs()))
	}
}

func TestSomebodyElsesClaim(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	w.prefect.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/deployments/filter") {
			w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": "11111111-1111-4111-8111-111111111111"}})
		}
		return false
	})
	if line := only(w.pass(), t); line.Outcome != dispatch.Duplicate || len(w.kube.Jobs()) != 0 {
		t.Errorf("%+v, %d Jobs", line, len(w.kube.Jobs()))
	}
}

// TestInterrupted: a caller who goes away ends the claiming; what is claimed is
// finished.
func TestInterrupted(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) { o.Concurrency = 1 }
	w.runs(20)
	ctx, cancel := context.WithCancel(t.Context())
	var posts atomic.Int64
	w.onJobPost(func(http.ResponseWriter, *http.Request) bool {
		if posts.Add(1) == 3 {
			cancel()
		}
		return false
	})
	report, err := w.tryPass(ctx)
	if dispatch.KindOf(err) != dispatch.Interrupted {
		t.Errorf("error %v, want Interrupted", err)
	}
	pending := 0
	for _, r := range w.prefect.Requests() {
		if strings.HasSuffix(r.Path, "/set_state") {
			pending++
		}
	}
	if report.Submitted != 3 || len(w.kube.Jobs()) != 3 || pending != 3 {
		t.Errorf("%d submitted, %d Jobs, %d claims; want 3", report.Submitted, len(w.kube.Jobs()), pending)
	}
}
