package tests

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// cutter stands before both servers and cuts the power of a dispatcher: it kills
// it before or after the effect of its nth request.
type cutter struct {
	prefect, kube *httptest.Server
	place         place // whose servers these are

	// at each request, with its number; for faults of other kinds
	on func(n int, r *http.Request)

	mu      sync.Mutex
	seen    int
	at      int // the request to cut at, from 1, or
	match   func(*http.Request) bool
	after   bool // its effect comes about
	victim  *exec.Cmd
	request string // the one that was cut
}

// newCutter stands before the world's own Prefect server.
func newCutter(t *testing.T) *cutter {
	t.Helper()
	return place{server: w.Prefect, kubeconfig: w.Kubeconfig}.cutter(t)
}

func (p place) cutter(t *testing.T) *cutter {
	t.Helper()
	c := &cutter{place: p}
	c.prefect = httptest.NewServer(c.before(t, p.server.URL, http.DefaultTransport))
	admin := w.Cluster.AdminConfig()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(admin.CAData)
	c.kube = httptest.NewTLSServer(c.before(t, admin.Host, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, InsecureSkipVerify: len(admin.CAData) == 0, MinVersion: tls.VersionTLS12}}))
	t.Cleanup(c.prefect.Close)
	t.Cleanup(c.kube.Close)
	return c
}

func (c *cutter) before(t *testing.T, target string, transport http.RoundTripper) http.Handler {
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.Transport = transport
	proxy.ErrorLog = log.New(io.Discard, "", 0) // a killed client goes away
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.seen++
		cut := c.victim != nil && (c.seen == c.at || c.match != nil && c.match(r))
		if cut {
			c.request = r.Method + " " + r.URL.Path
		}
		victim, after, on, n := c.victim, c.after, c.on, c.seen
		c.mu.Unlock()
		if on != nil {
			on(n, r)
		}
		if !cut {
			proxy.ServeHTTP(rw, r)
			return
		}
		if after {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		_ = victim.Process.Kill()
		panic(http.ErrAbortHandler)
	})
}

// kubeconfig is the place's own, by way of the cutter.
func (c *cutter) kubeconfig(t *testing.T) string {
	t.Helper()
	cfg, err := clientcmd.LoadFromFile(c.place.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range cfg.Clusters {
		cluster.Server, cluster.CertificateAuthority = c.kube.URL, ""
		cluster.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.kube.Certificate().Raw})
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// behind is the place by way of the cutter.
func (c *cutter) behind(t *testing.T, settings ...string) place {
	t.Helper()
	return c.place.with(append([]string{"PREFECT_API_URL=" + c.prefect.URL + "/api", "KUBECONFIG=" + c.kubeconfig(t)}, settings...)...)
}

// cut runs the command line until it dies at a request: the one of that number, or
// the first that match, if it is given, finds. False when it ended before that.
func (c *cutter) cut(t *testing.T, p place, at int, match func(*http.Request) bool, after bool, args ...string) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.Binary, args...)
	cmd.Env = append(w.Env(), p.env()...)
	c.mu.Lock()
	c.seen, c.at, c.match, c.after, c.victim, c.request = 0, at, match, after, cmd, ""
	c.mu.Unlock()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.request == "" && err != nil {
		t.Fatalf("the pass failed by itself: %v\n%s", err, out.String())
	}
	return c.request != ""
}

// TestPowerCut kills the dispatcher before and after each request of a pass over
// two runs. Ordinary passes follow, and each run has one Job and one execution.
func TestPowerCut(t *testing.T) {
	c := newCutter(t)
	p := c.behind(t, "SLIPWAY_CONCURRENCY=1", "SLIPWAY_ORPHAN_GRACE=0s")
	var all []string
	cuts := 0
	for at, more := 1, true; more; at++ {
		for _, after := range []bool{false, true} {
			name := fmt.Sprintf("cut-%d-%t", at, after)
			ids := runs(t, pool(t, name, nil), 2, time.Now())
			all = append(all, ids...)
			if more = c.cut(t, p, at, nil, after, "dispatch", "--work-pool", name); !more {
				break
			}
			cuts++
			where := fmt.Sprintf("cut %s of request %d (%s)", map[bool]string{false: "before", true: "after"}[after], at, c.request)
			eventually(t, where+": a Job for each run", func() bool {
				result, err := w.SlipwayWith(t.Context(), []string{"SLIPWAY_ORPHAN_GRACE=0s"}, "dispatch", "--work-pool", name)
				if err != nil || result.Code != 0 {
					t.Errorf("%s: the pass after it ended with %d (%v):\n%s%s", where, result.Code, err, result.Stdout, result.Stderr)
				}
				return settled(t, ids)
			})
		}
	}
	if cuts < 20 {
		t.Errorf("only %d cuts were made", cuts)
	}
	prove(t, "power cut before and after each request", "cut-", cuts, all, waitLimit, "")
}

// settled tells whether all runs have Jobs; false where the API server does not answer.
func settled(t *testing.T, ids []string) bool {
	for _, id := range ids {
		if jobs, err := listJobs(t, id); err != nil || len(jobs) == 0 {
			return false
		}
	}
	return true
}

func running(t *testing.T, id string) {
	t.Helper()
	reached(t, id, "RUNNING")
}

// sweepUntil sweeps, as a trigger would, until a run is in a state.
func sweepUntil(t *testing.T, pool, id, want string) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(time.Second) {
		result, err := w.SlipwayWith(t.Context(), []string{"SLIPWAY_SETTLE_GRACE=1s"}, "sweep", "--work-pool", pool)
		if err != nil || result.Code != 0 && !outOfTime(result) {
			t.Fatalf("slipway sweep ended with %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
		}
		if run, err := w.Prefect.FlowRun(t.Context(), id); err == nil && run.StateType == want {
			return
		}
	}
	t.Fatalf("the run does not become %s\n%s", want, w.Story(t.Context(), id))
}

// TestCancelEndsThePod: cancelled as the UI does it, the pod goes and the run is
// CANCELLED.
func TestCancelEndsThePod(t *testing.T) {
	id := runs(t, pool(t, "cancel", map[string]any{"env": map[string]string{"PROBE_SECONDS": "600"}}), 1, time.Now())[0]
	dispatchAll(t, []string{id}, "--work-pool", "cancel")
	running(t, id)
	state := map[string]any{"state": map[string]any{"type": "CANCELLING"}}
	if err := w.Prefect.Call(t.Context(), "POST", "/flow_runs/"+id+"/set_state", state, nil); err != nil {
		t.Fatal(err)
	}
	sweepUntil(t, "cancel", id, "CANCELLED")
	pods, err := w.Cluster.Client.CoreV1().Pods("dev").List(t.Context(), metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + id})
	if err != nil || len(pods.Items) != 0 || len(jobsOf(t, id)) != 0 {
		t.Errorf("%d pods and Jobs %v are left, %v", len(pods.Items), jobsOf(t, id), err)
	}
}

// TestCrashIsSeen: a pod that dies without a word makes its run CRASHED, with the
// exit code, and the end of its log in the run's.
func TestCrashIsSeen(t *testing.T) {
	id := runs(t, pool(t, "crash", map[string]any{"env": map[string]string{"PROBE_EXIT": "7"}}), 1, time.Now())[0]
	dispatchAll(t, []string{id}, "--work-pool", "crash")
	running(t, id)
	sweepUntil(t, "crash", id, "CRASHED")
	run, err := w.Prefect.FlowRun(t.Context(), id)
	if err != nil || !strings.Contains(run.State.Message, "BackoffLimitExceeded") || !strings.Contains(run.State.Message, "exit code 7") {
		t.Errorf("%v, %q", err, run.State.Message)
	}
	var logs []struct {
		Message string `json:"message"`
	}
	filter := map[string]any{"logs": map[string]any{"flow_run_id": map[string]any{"any_": []string{id}}}}
	if err := w.Prefect.Call(t.Context(), "POST", "/logs/filter", filter, &logs); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(logs); !strings.Contains(text, "The last lines of container prefect-job in pod crash-") || !strings.Contains(text, id+" ACCEPT") {
		t.Errorf("the run's log: %s", text)
	}
}

// TestDeletedJobIsSeen: a Job that somebody deletes ends its run.
func TestDeletedJobIsSeen(t *testing.T) {
	id := runs(t, pool(t, "deleted", map[string]any{"env": map[string]string{"PROBE_SECONDS": "600"}}), 1, time.Now())[0]
	dispatchAll(t, []string{id}, "--work-pool", "deleted")
	running(t, id)
	name := strings.TrimPrefix(jobsOf(t, id)[0], "dev/")
	background := metav1.DeletePropagationBackground
	if err := w.Cluster.Client.BatchV1().Jobs("dev").Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	sweepUntil(t, "deleted", id, "CRASHED")
	if run, err := w.Prefect.FlowRun(t.Context(), id); err != nil || !strings.Contains(run.State.Message, "its Job was deleted while it ran") {
		t.Errorf("%v, %q", err, run.State.Message)
	}
}
