package tests

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/demo"
	"slipway/kube"
	kubecontract "slipway/kube/kubetest/contract"
	"slipway/prefect/prefecttest/contract"
)

// TestDemo is the demo itself, which fails if any of what it shows is untrue.
func TestDemo(t *testing.T) {
	t.Parallel() // it mostly waits
	if err := (&demo.Demo{World: w, Out: t.Output()}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestPrefectContract holds the real server to the rules that prefecttest has.
func TestPrefectContract(t *testing.T) { contract.Run(t, w.Prefect.API) }

// TestKubeContract holds the real API server to what kubetest does, with the
// rights of Slipway's own service account.
func TestKubeContract(t *testing.T) {
	cfg, err := kube.LoadConfig(w.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kube.New(cfg, kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kubecontract.Run(t, client, "dev")
}

// TestLookAhead: claimed ahead of its time, a run starts when it is due.
func TestLookAhead(t *testing.T) {
	t.Parallel() // it mostly waits
	d := pool(t, "ahead", nil)
	due := time.Now().Add(2 * time.Minute) // time enough for both passes
	ids := runs(t, d, 1, due)
	if r := dispatch(t, "--work-pool", "ahead", "--look-ahead", "0s"); r.Found != 0 {
		t.Errorf("without look-ahead %d runs were found", r.Found)
	}
	if r := dispatchFound(t, 0, "--work-pool", "ahead", "--look-ahead", "240s"); r.Submitted != 1 {
		t.Fatalf("%+v", r)
	}
	completed(t, ids)
	states, err := w.Prefect.States(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]time.Time{}
	for _, s := range slices.Backward(states) {
		first[s.Type] = s.Timestamp
	}
	if late := first["PENDING"].Sub(due); late >= 0 {
		t.Errorf("it was claimed %s after it was due", late)
	}
	// The server tells an engine to wait in whole seconds (3.8.8).
	late := first["RUNNING"].Sub(due)
	if late < -time.Second {
		t.Errorf("it started %s before it was due", -late)
	}
	t.Logf("started %s from when it was due", late)
	once(t, "ahead-", ids)
}

// TestStorm: dispatchers and webhooks at once over more runs than one poll returns
// to each: one Job and one execution for each run.
func TestStorm(t *testing.T) {
	t.Run("16 x 50", func(t *testing.T) { storm(t, "race", 16, 0, 50) })
	if full {
		t.Run("32 x 500", func(t *testing.T) { storm(t, "storm", 16, 16, 500) })
	} else {
		t.Run("8 x 100", func(t *testing.T) { storm(t, "storm", 4, 4, 100) })
	}
}

func storm(t *testing.T, name string, dispatchers, hooks, n int) {
	ids := runs(t, pool(t, name, nil), n, time.Now())
	address := ""
	if hooks > 0 {
		address = serve(t, name)
	}
	var all sync.WaitGroup
	for range hooks {
		all.Go(func() { hook(t, address, name) })
	}
	for range dispatchers {
		all.Go(func() {
			result, err := w.Slipway(t.Context(), "dispatch", "--work-pool", name)
			if err != nil || result.Code != 0 {
				t.Errorf("slipway ended with %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
			}
		})
	}
	all.Wait()
	dispatchAll(t, ids, "--work-pool", name)
	prove(t, fmt.Sprintf("%d dispatchers and %d webhooks at once", dispatchers, hooks), name+"-", 0, ids, 15*time.Minute, "")
	if makers := once(t, name+"-", ids).makers; makers["system:serviceaccount:slipway:slipway"] != n {
		t.Errorf("Jobs were made by %v", makers)
	}
}

var listening = regexp.MustCompile(`"address":"([^"]+)"`)

// serve starts the HTTP face for a work pool and returns its address. It must
// drain when the test ends.
func serve(t *testing.T, pool string, env ...string) string {
	t.Helper()
	cmd := exec.Command(w.Binary, "serve")
	cmd.Env = append(append(w.Env(), "SLIPWAY_WORK_POOLS="+pool, "SLIPWAY_LISTEN=127.0.0.1:0", "SLIPWAY_AUTH_TOKENS=hush"), env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("serve did not drain: %v", err)
		}
	})
	return "http://" + readAddress(t, stderr)
}

// TestHookAndDispatch: a webhook and the command line want the same runs.
func TestHookAndDispatch(t *testing.T) {
	ids := runs(t, pool(t, "hook", nil), 20, time.Now())
	address := serve(t, "hook")
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { hook(t, address, "hook") })
		all.Go(func() { dispatch(t, "--work-pool", "hook") })
	}
	all.Wait()
	dispatchAll(t, ids, "--work-pool", "hook")
	completed(t, ids)
	once(t, "hook-", ids)
}

// readAddress waits for the line that says where serve listens, and keeps reading.
func readAddress(t *testing.T, stderr io.Reader) string {
	t.Helper()
	var text strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := stderr.Read(buffer)
		text.Write(buffer[:n])
		if m := listening.FindStringSubmatch(text.String()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return m[1]
		}
		if err != nil {
			t.Fatalf("serve does not listen:\n%s", text.String())
		}
	}
}

func hook(t *testing.T, address, pool string) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/v1/hooks/prefect", strings.NewReader(`{"pool":"`+pool+`"}`))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer hush")
	started := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("the hook was answered %s", resp.Status)
	}
	t.Logf("hook answered after %s", time.Since(started).Round(time.Millisecond))
}

// TestLimitsAndPauses: what the server holds back stays SCHEDULED.
func TestLimitsAndPauses(t *testing.T) {
	end := newSignal(t) // until which no run leaves its slot
	long := map[string]any{"env": map[string]string{"PROBE_UNTIL": string(end)}}
	d := pool(t, "limits", long)
	call := func(method, path string, body any) {
		t.Helper()
		if err := w.Prefect.Call(t.Context(), method, path, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	call("PATCH", "/work_pools/limits", map[string]any{"is_paused": true})
	first := runs(t, d, 4, time.Now())
	if r := dispatch(t, "--work-pool", "limits"); !r.Paused || r.Found != 0 {
		t.Errorf("paused: %+v", r)
	}
	call("PATCH", "/work_pools/limits", map[string]any{"is_paused": false, "concurrency_limit": 3})
	call("POST", "/work_pools/limits/queues", map[string]any{"name": "narrow", "concurrency_limit": 1})
	narrow := deploy(t, "limits", "narrow", long, map[string]any{"work_queue_name": "narrow"})
	second := runs(t, narrow, 2, time.Now())
	if r := dispatchFound(t, 0, "--work-pool", "limits", "--work-queue", "narrow"); r.Submitted != 1 {
		t.Errorf("queue limit 1: %+v", r)
	}
	all := append(first, second...)
	active := func() int {
		counts := countStates(t, all)
		n := counts["PENDING"] + counts["RUNNING"]
		if n > 3 {
			t.Errorf("pool limit 3: %v", counts)
		}
		return n
	}
	submitted := 1
	eventually(t, "three active runs", func() bool {
		submitted += dispatch(t, "--work-pool", "limits").Submitted
		return active() == 3
	})
	submitted += dispatch(t, "--work-pool", "limits").Submitted
	if active(); submitted != 3 {
		t.Errorf("pool limit 3: %d runs were submitted", submitted)
	}
	end.give(t)
	eventually(t, "all COMPLETED", func() bool {
		dispatch(t, "--work-pool", "limits")
		active()
		return countStates(t, all)["COMPLETED"] == len(all)
	})
}

// TestRefusedJob: an empty image is refused by the API server, and the run says so.
func TestRefusedJob(t *testing.T) {
	ids := runs(t, pool(t, "refused", map[string]any{"image": ""}), 1, time.Now())
	if r := dispatchFound(t, 3, "--work-pool", "refused"); r.Refused != 1 {
		t.Errorf("%+v", r)
	}
	run, err := w.Prefect.FlowRun(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if run.StateType != "CRASHED" || !strings.Contains(run.State.Message, "spec.template.spec.containers[0].image: Required value") {
		t.Errorf("the run is %s: %s", run.StateType, run.State.Message)
	}
	t.Log(run.State.Message)
}

// TestForbiddenNamespace: no Role there, so the API server refuses for good.
func TestForbiddenNamespace(t *testing.T) {
	ids := runs(t, pool(t, "forbidden", map[string]any{"namespace": "default"}), 1, time.Now())
	dispatchFound(t, 3, "--work-pool", "forbidden")
	run, err := w.Prefect.FlowRun(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if run.StateType != "CRASHED" || !strings.Contains(run.State.Message, `cannot create resource "jobs"`) {
		t.Errorf("the run is %s: %s", run.StateType, run.State.Message)
	}
}

// TestQuota: a quota that is used up gives the run back, and its end lets it go on.
func TestQuota(t *testing.T) {
	t.Parallel() // it mostly waits
	newNamespace(t, "quota")
	ids := runs(t, pool(t, "quota", map[string]any{"namespace": "quota"}), 3, time.Now())
	quotas := w.Cluster.Client.CoreV1().ResourceQuotas("quota")
	if _, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "none-left"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	container := corev1.Container{Name: "c", Image: "i"}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "tried"}, Spec: batchv1.JobSpec{
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{container}}},
	}}
	quotaHolds(t, func(dry metav1.CreateOptions) error {
		_, err := w.Cluster.Client.BatchV1().Jobs("quota").Create(t.Context(), job, dry)
		return err
	})
	r := dispatchFound(t, 4, "--work-pool", "quota")
	if r.Submitted != 0 || r.Unclaimed < 1 || r.Unclaimed+r.Skipped != r.Found {
		t.Errorf("%+v", r)
	}
	if states := countStates(t, ids); states["SCHEDULED"] != len(ids) {
		t.Errorf("the runs are %v", states)
	}
	if err := quotas.Delete(t.Context(), "none-left", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The API server may know the quota for a while yet, and then a pass ends with 4.
	eventually(t, "a claim of each flow run", func() bool {
		if _, result := pass(t, "--work-pool", "quota"); result.Code != 0 && result.Code != 4 {
			t.Fatalf("slipway ended with %d:\n%s%s", result.Code, result.Stdout, result.Stderr)
		}
		return countStates(t, ids)["SCHEDULED"] == 0
	})
	completed(t, ids)
	once(t, "quota-", ids)
}

// quotaHolds waits until the API server refuses what a quota forbids.
func quotaHolds(t *testing.T, create func(dry metav1.CreateOptions) error) {
	t.Helper()
	eventually(t, "a refusal by the quota", func() bool {
		err := create(metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "exceeded quota")
	})
}

// TestRenderedJob: what `slipway render` shows of a run is the Job that it got.
func TestRenderedJob(t *testing.T) {
	ids := runs(t, pool(t, "shown", map[string]any{"env": map[string]string{"A": "1"}}), 1, time.Now())
	if r := dispatchFound(t, 0, "--work-pool", "shown"); r.Submitted != 1 {
		t.Fatalf("%+v", r)
	}
	completed(t, ids)
	result, err := w.Slipway(t.Context(), "render", "--flow-run", ids[0], "--diff", "--server-dry-run")
	if err != nil || result.Code != 0 {
		t.Fatalf("slipway ended with %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	for _, want := range []string{"diff: none", `server: warning: unknown field "spec.template.spec.completions"`, "server: would take the Job in namespace dev"} {
		if !strings.Contains(result.Stdout, want) {
			t.Errorf("no %q in:\n%s", want, result.Stdout)
		}
	}
	result, err = w.SlipwayWith(t.Context(), []string{"SLIPWAY_WORKER_NAME=other"}, "render", "--flow-run", ids[0], "--diff")
	if err != nil || result.Code != 3 || !strings.Contains(result.Stdout, "diff: /spec/template/spec/containers/prefect-job/env/") {
		t.Errorf("another worker's name makes no difference: %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
}
