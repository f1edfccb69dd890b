package tests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/prefectserver"
)

// mishap is what becomes of one request to a flaky server.
type mishap struct {
	name   string
	effect bool // the request has its effect first
	do     func(rw http.ResponseWriter)
}

var mishaps = []mishap{
	{"answer lost", true, func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
	{"reset", false, func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
	{"503", false, func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusServiceUnavailable) }},
	{"503 after its effect", true, func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusServiceUnavailable) }},
	{"429", false, func(rw http.ResponseWriter) {
		rw.Header().Set("Retry-After", "1")
		rw.WriteHeader(http.StatusTooManyRequests)
	}},
}

// chaos makes a share of all requests go wrong.
type chaos struct {
	mu    sync.Mutex
	rand  *rand.Rand
	share float64
	met   map[string]int
}

func (c *chaos) draw() (mishap, bool, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rand.Float64() >= c.share {
		return mishap{}, false, 0
	}
	if c.rand.IntN(6) == 0 {
		c.met["slow"]++
		return mishap{}, false, time.Duration(c.rand.IntN(1500)) * time.Millisecond
	}
	m := mishaps[c.rand.IntN(len(mishaps))]
	c.met[m.name]++
	return m, true, 0
}

func (c *chaos) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		m, wrong, delay := c.draw()
		time.Sleep(delay)
		if !wrong {
			next.ServeHTTP(rw, r)
			return
		}
		if m.effect {
			next.ServeHTTP(httptest.NewRecorder(), r)
		}
		m.do(rw)
	})
}

// TestFlakyServers: at a fifth of all requests something goes wrong; four
// dispatchers at a time go over the runs until all have Jobs.
func TestFlakyServers(t *testing.T) {
	n := 30
	if full {
		n = 200
	}
	c := &chaos{rand: rand.New(rand.NewPCG(seed, 0)), share: 0.2, met: map[string]int{}}
	gate := newCutter(t) // cuts nothing here: it is the proxy before both servers
	kubeconfig := gate.kubeconfig(t)
	gate.prefect.Config.Handler = c.before(gate.prefect.Config.Handler)
	gate.kube.Config.Handler = c.before(gate.kube.Config.Handler)
	ids := runs(t, pool(t, "flaky", nil), n, time.Now())
	env := []string{"PREFECT_API_URL=" + gate.prefect.URL + "/api", "KUBECONFIG=" + kubeconfig, "SLIPWAY_ORPHAN_GRACE=60s", "SLIPWAY_DEADLINE=20s"}
	passUntil(t, "flaky", ids, 4, 8, env)
	faults := 0
	for _, met := range c.met {
		faults += met
	}
	prove(t, "flaky servers", "flaky-", faults, ids, waitLimit, fmt.Sprint(c.met))
}

// passUntil makes passes, so many dispatchers at once and so many times, and then
// ordinary ones until every run has a Job: what is left by then waits for its next
// try, or for the sweep.
func passUntil(t *testing.T, pool string, ids []string, dispatchers, rounds int, env []string) {
	t.Helper()
	for round := 0; round < rounds && !settled(t, ids); round++ {
		var all sync.WaitGroup
		for range dispatchers {
			all.Go(func() {
				result, err := w.SlipwayWith(t.Context(), env, "dispatch", "--work-pool", pool)
				if err != nil || result.Code != 0 && result.Code != 4 {
					t.Errorf("slipway ended with %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
				}
			})
		}
		all.Wait()
	}
	eventually(t, "a Job for each run", func() bool {
		if settled(t, ids) {
			return true
		}
		if _, err := w.Slipway(t.Context(), "dispatch", "--work-pool", pool); err != nil {
			t.Fatal(err)
		}
		return settled(t, ids)
	})
}

// TestRestarts: a server is killed and started again while a pass is under way.
func TestRestarts(t *testing.T) {
	for name, restart := range map[string]func(context.Context) error{
		"Prefect": w.Prefect.Restart, "API server": w.Cluster.RestartAPIServer,
	} {
		t.Run(name, func(t *testing.T) {
			gate := newCutter(t)
			kubeconfig := gate.kubeconfig(t)
			poolName := "restart-" + strings.ToLower(name[:3])
			ids := runs(t, pool(t, poolName, nil), 24, time.Now())
			var once sync.Once
			restarted := make(chan error, 1)
			gate.on = func(n int, _ *http.Request) {
				if n > 30 { // amid claims and Jobs
					once.Do(func() { go func() { restarted <- restart(context.WithoutCancel(t.Context())) }() })
				}
			}
			env := []string{"PREFECT_API_URL=" + gate.prefect.URL + "/api", "KUBECONFIG=" + kubeconfig, "SLIPWAY_ORPHAN_GRACE=20s", "SLIPWAY_DEADLINE=10s"}
			passUntil(t, poolName, ids, 3, 6, env)
			if err := <-restarted; err != nil {
				t.Fatal(err)
			}
			prove(t, name+" restarts in mid-pass", poolName+"-", 1, ids, waitLimit, "")
		})
	}
}

// TestMixedFleet: a Python worker serves the same pool at the same time. The flows
// end after the worker has, which then has tried all runs of its poll: it claims a run
// that has completed since the poll, and runs it again (prefect-kubernetes 0.8.0; seen
// as COMPLETED, then Pending and Submitting by the worker), beside anybody.
func TestMixedFleet(t *testing.T) {
	t.Parallel() // it mostly waits
	venv, err := prefectserver.Install(t.Context(), os.Stderr, prefectserver.Worker3)
	if err != nil {
		t.Fatal(err)
	}
	end := newSignal(t)
	ids := runs(t, pool(t, "mixed", map[string]any{"env": map[string]string{"PROBE_UNTIL": string(end)}}), 40, time.Now())
	oneRun := []string{"--work-pool", "mixed", "--limit", "1", "--look-ahead", "0s"}
	dispatchFound(t, 0, oneRun...)
	home := t.TempDir()
	worker := exec.CommandContext(t.Context(), venv.Bin("prefect"), "worker", "start", "--pool", "mixed", "--type", "kubernetes", "--run-once", "--install-policy", "never")
	// Without its observer, which puts probes that ended within a second back to
	// InfrastructurePending (prefect-kubernetes 0.8.0, its own runs too).
	worker.Env = append(venv.Environ(home), "PREFECT_API_URL="+w.Prefect.API, "KUBECONFIG="+w.Cluster.AdminKubeconfig(),
		"PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_ENABLED=false")
	output := make(chan string, 1)
	go func() {
		out, err := worker.CombinedOutput()
		if err != nil {
			t.Errorf("the Python worker: %v\n%s", err, out)
		}
		output <- string(out)
	}()
	// The worker takes a while to start; Slipway leaves it half of the runs until then.
	eventually(t, "a Job for each run", func() bool {
		if ours, workers := mixedJobs(t); workers > 0 || ours < len(ids)/2 {
			pass(t, oneRun...)
		}
		return settled(t, ids)
	})
	select {
	case <-output:
	case <-time.After(waitLimit):
		t.Fatal("the Python worker does not end")
	}
	end.give(t)
	if result, err := w.Slipway(t.Context(), "dispatch", "--work-pool", "mixed"); err != nil || result.Code != 0 {
		t.Errorf("slipway ended with %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	completed(t, ids)
	ours, workers := mixedJobs(t)
	executions, err := w.Executions()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if jobs := jobsOf(t, id); len(jobs) != 1 || executions[id] != 1 {
			t.Errorf("run %s has Jobs %v and %d executions\n%s", id, jobs, executions[id], w.Story(t.Context(), id))
		}
	}
	if ours+workers != len(ids) || ours == 0 || workers == 0 {
		t.Errorf("%d Jobs for %d runs, %d of them Slipway's: one of the two had nothing to do", ours+workers, len(ids), ours)
	}
	row := proven{what: "a Python worker on the same pool", runs: len(ids), jobs: ours + workers,
		note: fmt.Sprintf("%d Jobs by Slipway, %d by the worker", ours, workers)}
	for _, id := range ids {
		row.lost += max(0, 1-executions[id])
		row.doubled += max(0, executions[id]-1)
	}
	record(row)
}

// mixedJobs counts the Jobs that Slipway has made in the pool, and those that the
// worker has. The worker lets the API server name its Jobs, and the audit log does not
// know those names: so the Jobs themselves are counted.
func mixedJobs(t *testing.T) (ours, workers int) {
	t.Helper()
	list, err := w.Cluster.Client.BatchV1().Jobs("dev").List(t.Context(), metav1.ListOptions{LabelSelector: "prefect.io/work-pool-name=mixed"})
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range list.Items {
		if job.Annotations["slipway/transition-id"] != "" {
			ours++
		}
	}
	return ours, len(list.Items) - ours
}
