package tests

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
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
// dispatchers at a time go over thirty runs until all have Jobs.
func TestFlakyServers(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CHAOS_SEED=%d", seed)
	c := &chaos{rand: rand.New(rand.NewPCG(seed, 0)), share: 0.2, met: map[string]int{}}
	gate := newCutter(t) // cuts nothing here: it is the proxy before both servers
	kubeconfig := gate.kubeconfig(t)
	gate.prefect.Config.Handler = c.before(gate.prefect.Config.Handler)
	gate.kube.Config.Handler = c.before(gate.kube.Config.Handler)
	ids := runs(t, pool(t, "flaky", nil), 30, time.Now())
	env := []string{"PREFECT_API_URL=" + gate.prefect.URL + "/api", "KUBECONFIG=" + kubeconfig, "SLIPWAY_ORPHAN_GRACE=60s", "SLIPWAY_DEADLINE=5s"}
	for round := 0; round < 8 && !settled(t, ids); round++ {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				result, err := w.SlipwayWith(t.Context(), env, "dispatch", "--work-pool", "flaky")
				if err != nil || result.Code != 0 && result.Code != 4 {
					t.Errorf("slipway ended with %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
				}
			})
		}
		all.Wait()
	}
	// What is left is waiting for its next try, or for the sweep.
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline) && !settled(t, ids); time.Sleep(2 * time.Second) {
		if _, err := w.Slipway(t.Context(), "dispatch", "--work-pool", "flaky"); err != nil {
			t.Fatal(err)
		}
	}
	completed(t, ids, time.Minute)
	t.Log(c.met, once(t, "flaky-", ids))
}

// TestMixedFleet: a Python worker serves the same pool at the same time.
func TestMixedFleet(t *testing.T) {
	venv, err := prefectserver.Install(t.Context(), os.Stderr, prefectserver.Worker3)
	if err != nil {
		t.Fatal(err)
	}
	ids := runs(t, pool(t, "mixed", nil), 40, time.Now())
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
	// The worker takes seconds to start; Slipway leaves it some runs until then.
	for range 60 {
		if _, err := w.Slipway(t.Context(), "dispatch", "--work-pool", "mixed", "--limit", "1", "--look-ahead", "0s"); err != nil {
			t.Fatal(err)
		}
		if settled(t, ids) {
			break
		}
	}
	<-output
	if result, err := w.Slipway(t.Context(), "dispatch", "--work-pool", "mixed"); err != nil || result.Code != 0 {
		t.Errorf("slipway ended with %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	completed(t, ids, 2*time.Minute)
	// The worker lets the API server name its Jobs, and the audit log does not
	// know those names: so the Jobs themselves are counted.
	list, err := w.Cluster.Client.BatchV1().Jobs("dev").List(t.Context(), metav1.ListOptions{LabelSelector: "prefect.io/work-pool-name=mixed"})
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, job := range list.Items {
		if job.Annotations["slipway/transition-id"] != "" {
			ours++
		}
	}
	executions, err := w.Executions()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if jobs := jobsOf(t, id); len(jobs) != 1 || executions[id] != 1 {
			t.Errorf("run %s has Jobs %v and %d executions", id, jobs, executions[id])
		}
	}
	if len(list.Items) != len(ids) || ours == 0 || ours == len(ids) {
		t.Errorf("%d Jobs for %d runs, %d of them Slipway's: one of the two had nothing to do", len(list.Items), len(ids), ours)
	}
	t.Logf("runs: %d, Jobs by Slipway: %d, by the Python worker: %d", len(ids), ours, len(list.Items)-ours)
}
