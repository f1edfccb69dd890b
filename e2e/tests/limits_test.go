package tests

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "slipway/dispatch"
	"slipway/e2e/demo"
	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
	"slipway/kube"
	"slipway/prefect"
)

// skewed is a dispatcher on a machine whose clock is off. Its graces are longer than
// anything takes here, and shorter than the errors of the clocks.
func skewed(t *testing.T, skew time.Duration) *core.Dispatcher {
	t.Helper()
	now := func() time.Time { return time.Now().Add(skew) }
	server, err := prefect.New(prefect.Options{URL: w.Prefect.API, MaxRetries: 5, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	config, err := kube.LoadConfig(w.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := kube.New(config, kube.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return core.New(core.Options{
		Prefect: server, Kube: cluster, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: now,
		WorkerName: "slipway", Heartbeat: time.Minute, Concurrency: 4, Deadline: 2 * time.Minute, OrphanGrace: 5 * time.Minute, SettleGrace: 5 * time.Minute,
		Namespace: "default", Environ: map[string]string{"PREFECT_API_URL": w.Prefect.API},
	})
}

// TestClockSkew: machines whose clocks are minutes apart serve one pool at once,
// each with its sweep; a run that is due in six minutes stays where it is until then.
func TestClockSkew(t *testing.T) {
	d := pool(t, "skew", nil)
	due := time.Now().Add(6 * time.Minute)
	early := runs(t, d, 1, due)[0]
	ids := runs(t, d, 24, time.Now())
	skews := []time.Duration{0, 7 * time.Minute, -7 * time.Minute, 90 * time.Second}
	for range 3 {
		var all sync.WaitGroup
		for _, skew := range skews {
			machine := skewed(t, skew)
			all.Go(func() {
				reports, err := machine.Dispatch(t.Context(), core.Request{WorkPools: []string{"skew"}, Sweep: true})
				if err != nil {
					t.Errorf("%s: %v", skew, err)
				}
				for _, r := range reports {
					if r.Sweep == nil || r.Sweep.Repaired != 0 {
						t.Errorf("%s: the sweep repaired what was not broken: %+v", skew, r.Sweep)
					}
				}
			})
		}
		all.Wait()
	}
	dispatchAll(t, ids, "--work-pool", "skew", "--look-ahead", "0s")
	prove(t, "clocks 7 minutes ahead and behind", "skew-", len(skews)-1, ids, waitLimit, "")
	states, err := w.Prefect.States(t.Context(), early)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		// The servers tell their time in whole seconds.
		if before := due.Sub(s.Timestamp); s.Type != "SCHEDULED" && before > 10*time.Second {
			t.Errorf("the run was %s %s before it was due", s.Type, before)
		}
	}
}

// TestRetryBudget: a server that answers nothing but 503 or 429 is asked a bounded
// number of times, and the pass ends.
func TestRetryBudget(t *testing.T) {
	id := runs(t, pool(t, "budget", nil), 1, time.Now())[0]
	var asked atomic.Int64
	refuse := func(code int, where string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, where) {
				next.ServeHTTP(rw, r)
				return
			}
			asked.Add(1)
			rw.Header().Set("Retry-After", "1")
			rw.WriteHeader(code)
		})
	}
	for _, c := range []struct {
		name  string
		spoil func(*cutter)
		most  int64
	}{
		{"the poll is answered 429", func(c *cutter) {
			c.prefect.Config.Handler = refuse(429, "/get_scheduled_flow_runs", c.prefect.Config.Handler)
		}, 4},
		{"Jobs are answered 503", func(c *cutter) { c.kube.Config.Handler = refuse(503, "/jobs", c.kube.Config.Handler) }, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			gate := newCutter(t)
			kubeconfig := gate.kubeconfig(t)
			c.spoil(gate)
			env := []string{"PREFECT_API_URL=" + gate.prefect.URL + "/api", "KUBECONFIG=" + kubeconfig, "PREFECT_CLIENT_MAX_RETRIES=3", "SLIPWAY_DEADLINE=6s"}
			asked.Store(0)
			// On a busy machine the deadline of a claim may pass before the request.
			eventually(t, "a pass that makes the request", func() bool {
				started := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
				defer cancel()
				result, err := w.SlipwayWith(ctx, env, "dispatch", "--work-pool", "budget", "--no-sweep")
				n := asked.Load()
				if err != nil || n > 0 && result.Code != 4 || n > c.most {
					t.Fatalf("exit %d (%v) after %s and %d requests, at most %d are wanted:\n%s%s", result.Code, err, time.Since(started), n, c.most, result.Stdout, result.Stderr)
				}
				t.Logf("%d requests in %s", n, time.Since(started).Round(time.Millisecond))
				return n > 0
			})
		})
	}
	if state := stateOf(t, id); state != "PENDING" {
		t.Errorf("after 503s, whose effect is not known, the run is %s", state)
	}
	eventually(t, "its Job", func() bool { sweep(t, "budget", "SLIPWAY_ORPHAN_GRACE=0s"); return len(jobsOf(t, id)) == 1 })
	prove(t, "a deadline's worth of 503", "budget-", int(asked.Load()), []string{id}, waitLimit, "")
}

// onPrefect2 lets a test use a server of 2.20 in the place of 3.x's.
func onPrefect2(t *testing.T, env ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	venv, err := prefectserver.Install(ctx, os.Stderr, prefectserver.Worker2)
	if err != nil {
		t.Fatal(err)
	}
	restore, err := w.Use(ctx, venv, env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(restore)
}

// TestPrefect2: the whole demo, and each kind of repair, on 2.20.
func TestPrefect2(t *testing.T) {
	onPrefect2(t)
	t.Run("demo", func(t *testing.T) {
		if err := w.CreatePool(t.Context(), world.Pool); err != nil {
			t.Fatal(err)
		}
		if err := (&demo.Demo{World: w, Out: t.Output()}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the worker's own default template", func(t *testing.T) {
		ownTemplate(t, "two-own")
	})
	t.Run("an orphan", func(t *testing.T) {
		id := runs(t, pool(t, "two-orphan", nil), 1, time.Now())[0]
		set(t, id, map[string]any{"type": "PENDING", "name": "Pending", "state_details": map[string]any{"transition_id": claimOf(t, id, false)}})
		eventually(t, "its Job", func() bool {
			sweep(t, "two-orphan", "SLIPWAY_ORPHAN_GRACE=0s")
			return len(jobsOf(t, id)) == 1
		})
		run := completed(t, []string{id})[0]
		if strings.Count(run.PID, ":") != 2 {
			t.Errorf("the pid %q is not of 2.x's shape", run.PID)
		}
		once(t, "two-orphan-", []string{id})
	})
	t.Run("a crash", func(t *testing.T) {
		id := runs(t, pool(t, "two-crash", map[string]any{"env": map[string]string{"PROBE_EXIT": "7"}}), 1, time.Now())[0]
		claimOnly(t, "two-crash", id)
		running(t, id)
		sweepUntil(t, "two-crash", id, "CRASHED")
		if log := logOf(t, id); !strings.Contains(log, "exit code 7") {
			t.Errorf("its log: %s", log)
		}
	})
	t.Run("a cancellation", func(t *testing.T) {
		id := runs(t, pool(t, "two-cancel", map[string]any{"env": map[string]string{"PROBE_SECONDS": "600"}}), 1, time.Now())[0]
		claimOnly(t, "two-cancel", id)
		running(t, id)
		set(t, id, map[string]any{"type": "CANCELLING"})
		sweepUntil(t, "two-cancel", id, "CANCELLED")
		if jobs := jobsOf(t, id); len(jobs) != 0 {
			t.Errorf("Jobs are left: %v", jobs)
		}
	})
}

// TestOwnTemplate: a pool as `prefect work-pool create --type kubernetes` makes it,
// with prefect-kubernetes 0.8.0 there.
func TestOwnTemplate(t *testing.T) {
	venv, err := prefectserver.Install(t.Context(), os.Stderr, prefectserver.Worker3)
	if err != nil {
		t.Fatal(err)
	}
	restore := w.Prefect.Venv
	defer func() { w.Prefect.Venv = restore }()
	w.Prefect.Venv = venv
	ownTemplate(t, "own")
}

// ownTemplate runs a flow run of a pool with the default template of the worker in
// the server's environment.
func ownTemplate(t *testing.T, pool string) {
	t.Helper()
	out, err := w.Python(t.Context(), t.TempDir(), "python", "-W", "ignore", "-c",
		"import json, sys\nfrom prefect_kubernetes.worker import KubernetesWorker as K\njson.dump(K.get_default_base_job_template(), open(sys.argv[1], 'w'))", filepath.Join(w.Dir, pool+".json"))
	if err != nil {
		t.Fatal(err, out)
	}
	template, err := os.ReadFile(filepath.Join(w.Dir, pool+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Prefect.CreatePool(t.Context(), pool, template); err != nil {
		t.Fatal(err)
	}
	ids := runs(t, deploy(t, pool, pool, nil, nil), 2, time.Now())
	dispatchAll(t, ids, "--work-pool", pool)
	completed(t, ids)
	once(t, pool+"-", ids)
}
