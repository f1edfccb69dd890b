package dispatch_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/kube/kubetest"
)

// TestFirstSweepAfterAnOutage: how old a claim is says nothing of how long its Job could
// not be made. The limit counts from the first sweep that met the fault.
func TestFirstSweepAfterAnOutage(t *testing.T) {
	for name, c := range map[string]struct {
		cured bool
		want  string
		jobs  int
	}{"that goes on": {false, "CRASHED", 0}, "that ends": {true, "PENDING", 1}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := w.orphan()
			const outage = 24 * time.Hour
			w.refusePosts(500, "InternalError", "etcdserver: leader changed")
			for _, after := range []time.Duration{outage, outage + 14*time.Minute} {
				if r := w.sweepIn(after, pool); w.state(id).StateType != "PENDING" || r.Failed != 1 {
					t.Errorf("after %s: %+v, the run is %s", after, r, w.state(id).StateType)
				}
			}
			if c.cured {
				w.kube.Intercept(nil)
			}
			w.sweepIn(outage+16*time.Minute, pool)
			if run := w.state(id); run.StateType != c.want || w.jobsOf(id) != c.jobs {
				t.Errorf("in the end the run is %s with %d Jobs", run.StateType, w.jobsOf(id))
			}
		})
	}
}

// refusals are answers without effect to the creation of a Job or a Secret.
var refusals = map[string]func(rw http.ResponseWriter){
	"quota": func(rw http.ResponseWriter) {
		kubetest.Refuse(rw, 403, "Forbidden", "exceeded quota: q, requested: count/jobs.batch=1, used: count/jobs.batch=0, limited: count/jobs.batch=0", nil)
	},
	"terminating": func(rw http.ResponseWriter) {
		kubetest.Refuse(rw, 403, "Forbidden", "unable to create new content in namespace dev because it is being terminated", doc{"causes": []any{doc{"reason": "NamespaceTerminating", "message": "namespace dev is being terminated"}}})
	},
	"credentials":       func(rw http.ResponseWriter) { kubetest.Refuse(rw, 401, "Unauthorized", "Unauthorized", nil) },
	"too many requests": func(rw http.ResponseWriter) { kubetest.Refuse(rw, 429, "TooManyRequests", "slow down", nil) },
	"a proxy's page":    func(rw http.ResponseWriter) { http.Error(rw, "default backend - 404", http.StatusNotFound) },
}

// TestRepairMeetsARefusal: a sweep never gives a claim back. It waits for a quota as long
// as it takes, unless the settings limit that, and for all else as long as the limit of
// JobNotCreated.
func TestRepairMeetsARefusal(t *testing.T) {
	quarter, never := 15*time.Minute, time.Duration(0)
	for name, c := range map[string]struct {
		refusal string
		limits  map[string]time.Duration
		limit   time.Duration
	}{
		"a quota":                 {"quota", nil, never},
		"a quota, another limit":  {"quota", map[string]time.Duration{"JobNotCreated": time.Minute}, never},
		"a quota, with its limit": {"quota", map[string]time.Duration{"QuotaExceeded": 40 * time.Minute, "JobNotCreated": time.Minute}, 40 * time.Minute},
		"a namespace that ends":   {"terminating", nil, quarter},
		"refused credentials":     {"credentials", nil, quarter},
		"too many requests":       {"too many requests", nil, quarter},
		"a proxy":                 {"a proxy's page", nil, quarter},
		"a proxy, with a limit":   {"a proxy's page", map[string]time.Duration{"JobNotCreated": time.Hour}, time.Hour},
	} {
		for _, of := range []string{"/jobs", "/secrets"} {
			t.Run(name+", of "+of, func(t *testing.T) {
				w := newWorld(t)
				id := w.orphan()
				w.change = func(o *dispatch.Options) { envInASecret(o); o.StartLimits = c.limits }
				w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, of) {
						return false
					}
					refusals[c.refusal](rw)
					return true
				})
				const first = 2 * time.Minute
				early, late := first+c.limit-time.Minute, first+c.limit+time.Minute
				if c.limit == never {
					early, late = first+time.Hour, first+100*time.Hour
				}
				for _, after := range []time.Duration{first, early} {
					if r := w.sweepIn(after, pool); r.Repaired != 0 || w.state(id).StateType != "PENDING" {
						t.Errorf("after %s: %+v, the run is %s", after, r, w.state(id).StateType)
					}
				}
				if n := w.linesOf(id, " is still not created: "); n != 1 {
					t.Errorf("%d lines tell why there is no Job", n)
				}
				w.sweepIn(late, pool)
				if run := w.state(id); (run.StateType == "CRASHED") != (c.limit != never) || run.StateType == "SCHEDULED" || w.jobsOf(id) != 0 {
					t.Errorf("in the end the run is %s with %d Jobs", run.StateType, w.jobsOf(id))
				}
			})
		}
	}
}

// TestLongRetryAfter: the API server's own wish does not put a run off for a day.
func TestLongRetryAfter(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
		kubetest.Refuse(rw, 429, "TooManyRequests", "slow down", doc{"retryAfterSeconds": 86400})
		return true
	})
	if _, err := w.tryPass(t.Context()); err == nil {
		t.Error("the pass goes on")
	}
	run := w.state(id)
	if run.StateName != "AwaitingRetry" || run.NextScheduledStartTime.After(time.Now().Add(6*time.Minute)) || run.NextScheduledStartTime.Before(time.Now().Add(4*time.Minute)) {
		t.Errorf("the run is %s, due %v", run.StateName, run.NextScheduledStartTime)
	}
}

// TestSecretThatTakesTime: what has become of the run while its Secret was written is
// looked at before its Job is made.
func TestSecretThatTakesTime(t *testing.T) {
	for _, state := range []string{"CANCELLED", "CANCELLING", "SCHEDULED", "FAILED"} {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t)
			w.change = envInASecret
			id := w.run()
			w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/secrets") {
					return false
				}
				w.kube.Intercept(nil)
				w.force(id, state)
				kubetest.Refuse(rw, 500, "InternalError", "etcdserver: request timed out", nil)
				return true
			})
			line := only(w.pass(), t)
			if line.Outcome != dispatch.Skipped || len(w.kube.Jobs()) != 0 || w.state(id).StateType != state {
				t.Errorf("%+v: the run is %s with %d Jobs", line, w.state(id).StateType, len(w.kube.Jobs()))
			}
		})
	}
}
