package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/e2e/prefectserver"
)

// TestMigration: in the shadow of a Python worker Slipway makes the same Jobs; then
// the worker goes, and what it has begun comes to its end.
func TestMigration(t *testing.T) {
	t.Parallel() // it mostly waits
	venv, err := prefectserver.Install(t.Context(), os.Stderr, prefectserver.Worker3)
	if err != nil {
		t.Fatal(err)
	}
	d := pool(t, "moving", map[string]any{"env": map[string]string{"PROBE_SECONDS": "15"}})
	ids := runs(t, d, 3, time.Now())
	long := runs(t, deploy(t, "moving", "moving-long", map[string]any{"env": map[string]string{"PROBE_SECONDS": "600"}}, nil), 1, time.Now())[0]
	worker := exec.CommandContext(t.Context(), venv.Bin("prefect"), "worker", "start", "--pool", "moving", "--type", "kubernetes", "--name", "old", "--run-once", "--install-policy", "never")
	home := t.TempDir()
	worker.Env = append(venv.Environ(home), "PREFECT_API_URL="+w.Prefect.API, "KUBECONFIG="+w.Cluster.AdminKubeconfig(),
		"PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_ENABLED=false")
	if out, err := worker.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	next := runs(t, d, 1, time.Now())
	// The worker hands on a setting that Slipway's process does not have.
	result, err := w.Slipway(t.Context(), "dispatch", "--shadow", "--work-pool", "moving")
	if err != nil || result.Code != 3 || strings.Count(result.Stdout, "env/PREFECT_HOME/value") != 4 {
		t.Errorf("in the shadow: %d (%v)\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	result, err = w.SlipwayWith(t.Context(), []string{"PREFECT_HOME=" + filepath.Join(home, ".prefect")}, "dispatch", "--shadow", "--work-pool", "moving")
	if err != nil || result.Code != 0 || !strings.Contains(result.Stdout, "4 Jobs of the worker equal, 0 different; 1 runs due, 0 of them") {
		t.Errorf("in the shadow: %d (%v)\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	if state := stateOf(t, next[0]); state != "SCHEDULED" {
		t.Errorf("the shadow has claimed a run: it is %s", state)
	}
	for range 3 {
		dispatch(t, "--work-pool", "moving") // with its sweep, which leaves the worker's Jobs alone
	}
	dispatchAll(t, next, "--work-pool", "moving")
	// The worker is gone: cancelled, its run is ended by the sweep that adopts it.
	running(t, long)
	set(t, long, map[string]any{"type": "CANCELLING"})
	eventually(t, "CANCELLED", func() bool {
		sweep(t, "moving", "SLIPWAY_ADOPT_JOBS=true")
		return stateOf(t, long) == "CANCELLED"
	})
	if jobs := jobsOf(t, long); len(jobs) != 0 {
		t.Errorf("Jobs are left: %v", jobs)
	}
	all := append(ids, next...)
	completed(t, all)
	executions, err := w.Executions()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range all {
		if jobs := jobsOf(t, id); len(jobs) != 1 || executions[id] != 1 {
			t.Errorf("run %s has Jobs %v and %d executions", id, jobs, executions[id])
		}
	}
}

// ask runs a verb that only looks.
func ask(t *testing.T, code int, args ...string) string {
	t.Helper()
	result, err := w.Slipway(t.Context(), args...)
	if err != nil || result.Code != code {
		t.Fatalf("slipway %v ended with %d (%v), want %d:\n%s%s", args, result.Code, err, code, result.Stdout, result.Stderr)
	}
	return result.Stdout
}

// TestDoctor: with the rights of Slipway's own account.
func TestDoctor(t *testing.T) {
	pool(t, "doctor", nil)
	dispatchOnly(t, "doctor")
	for _, want := range []string{"ok    Prefect server: version 3.8.8 answers", "ok    work pool doctor: 1 of 1 deployments make a Job", "ok    namespace dev: Slipway has its rights"} {
		if out := ask(t, 0, "doctor", "--work-pool", "doctor"); !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	deploy(t, "doctor", "doctor-lost", map[string]any{"namespace": "default", "service_account_name": "nobody"}, nil)
	out := ask(t, 3, "doctor", "--work-pool", "doctor")
	if !strings.Contains(out, "fail  namespace default: Slipway may not: create jobs") || !strings.Contains(out, "-> kubectl apply -n default -k deploy/namespace") {
		t.Errorf("%s", out)
	}
	t.Log(out)
}

// TestExplain: a run that waits for a slot, and one whose image cannot be pulled.
func TestExplain(t *testing.T) {
	if err := w.CreatePool(t.Context(), "why"); err != nil {
		t.Fatal(err)
	}
	d := deploy(t, "why", "why", map[string]any{"image": "registry.invalid/none:1"}, map[string]any{"concurrency_limit": 1})
	ids := runs(t, d, 2, time.Now())
	stuck, waits := "", ""
	eventually(t, "one run that is claimed, and one that waits for its slot", func() bool {
		dispatchOnly(t, "why")
		for _, id := range ids {
			run, err := w.Prefect.FlowRun(t.Context(), id)
			switch {
			case err != nil:
				t.Fatal(err)
			case run.StateType == "PENDING":
				stuck = id
			case run.StateName == "AwaitingConcurrencySlot":
				waits = id
			}
		}
		return stuck != "" && waits != ""
	})
	eventually(t, "the reason of the first", func() bool {
		return strings.Contains(ask(t, 0, "explain", stuck), "1. its pod dev/why-") && strings.Contains(ask(t, 0, "explain", stuck), "does not start: ImagePullError")
	})
	if out := ask(t, 0, "explain", waits); !strings.Contains(out, "1. the concurrency limit 1 of its deployment why is reached, by ") || !strings.Contains(out, stuck) {
		t.Errorf("%s", out)
	}
	t.Log(ask(t, 0, "explain", stuck), ask(t, 0, "explain", waits))
}
