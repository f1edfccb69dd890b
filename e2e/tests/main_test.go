// Package tests tries Slipway end to end: a real Prefect server on PostgreSQL, a
// real Kubernetes control plane, and the binary with the rights of its own service
// account.
package tests

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
)

// w is the world that all tests share; each has a work pool of its own.
var w *world.World

// waitLimit is how long a test waits for something. A working system needs seconds
// for it, so a test that reaches the limit has found a fault, however slow the
// machine is.
const waitLimit = 5 * time.Minute

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		w, err = world.Start(context.Background(), world.Options{Postgres: true, Log: os.Stderr})
		if err != nil {
			fmt.Fprintln(os.Stderr, "the world does not start:", err)
			return 1
		}
		defer w.Stop()
		defer printProof(os.Stderr)
		code := m.Run()
		if whole := flag.Lookup("test.run").Value.String() == ""; whole && code == 0 {
			if err := roleIsUsed(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}())
}

// pool makes a work pool and a deployment in it whose runs are probes.
func pool(t *testing.T, name string, variables map[string]any) (deployment string) {
	t.Helper()
	ctx := t.Context()
	if err := w.CreatePool(ctx, name); err != nil {
		t.Fatal(err)
	}
	return deploy(t, name, name, variables, nil)
}

func deploy(t *testing.T, pool, name string, variables, more map[string]any) string {
	t.Helper()
	flow, err := w.Prefect.CreateFlow(t.Context(), "probe")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"image": world.Probe, "namespace": world.Namespace, "service_account_name": "worker", "name": name}
	for k, v := range variables {
		all[k] = v
	}
	body := map[string]any{"job_variables": all}
	for k, v := range more {
		body[k] = v
	}
	id, err := w.Prefect.CreateDeployment(t.Context(), flow, name, pool, body)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// runs makes flow runs that are due at a time.
func runs(t *testing.T, deployment string, n int, due time.Time) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		id, err := w.Prefect.CreateRun(t.Context(), deployment, due, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = id
	}
	return ids
}

// report is what `slipway dispatch -o json` prints for a work pool.
type report struct {
	Found, Submitted, Duplicate, Skipped, Refused, Unclaimed, Unknown, Failed int
	Paused                                                                    bool
	Runs                                                                      []struct{ ID, Outcome, Job, Namespace, Reason string }
}

// pass makes one pass, whatever its exit code is.
func pass(t *testing.T, args ...string) (report, world.Result) {
	t.Helper()
	result, err := w.Slipway(t.Context(), append([]string{"dispatch", "-o", "json"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(result.Stdout), &r); err != nil {
		t.Fatalf("slipway ended with %d, %v in:\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	return r, result
}

// outOfTime tells whether a pass or a sweep has used up its time budget, as it may on a
// very busy machine. The next one goes on.
func outOfTime(result world.Result) bool {
	return result.Code == 4 && strings.Contains(result.Stderr, "SLIPWAY_PASS_TIME")
}

// dispatch makes one pass, and wants it to end well.
func dispatch(t *testing.T, args ...string) report {
	t.Helper()
	r, result := pass(t, args...)
	if result.Code != 0 && !outOfTime(result) {
		t.Fatalf("slipway ended with %d:\n%s%s", result.Code, result.Stdout, result.Stderr)
	}
	return r
}

// dispatchFound makes passes until one finds flow runs, and wants an exit code of that
// one. On a busy machine a pass may find none: it discards pages of the poll that are
// too old.
func dispatchFound(t *testing.T, code int, args ...string) report {
	t.Helper()
	var r report
	eventually(t, "a pass that finds flow runs", func() bool {
		var result world.Result
		r, result = pass(t, args...)
		if want := map[bool]int{true: code}[r.Found > 0]; result.Code != want && (r.Found > 0 || !outOfTime(result)) {
			t.Fatalf("slipway ended with %d, want %d:\n%s%s", result.Code, want, result.Stdout, result.Stderr)
		}
		return r.Found > 0
	})
	return r
}

// dispatchAll makes passes until none of the flow runs is SCHEDULED. On a busy machine
// one pass may leave some to the next.
func dispatchAll(t *testing.T, ids []string, args ...string) {
	t.Helper()
	eventually(t, "a claim of each flow run", func() bool {
		if countStates(t, ids)["SCHEDULED"] == 0 {
			return true
		}
		dispatch(t, args...)
		return countStates(t, ids)["SCHEDULED"] == 0
	})
}

// countStates counts flow runs by state type, 200 and fewer as they are at one moment.
// A run that does not exist counts as DELETED.
func countStates(t *testing.T, ids []string) map[string]int {
	t.Helper()
	found, err := w.Prefect.FlowRuns(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, run := range found {
		counts[run.StateType]++
	}
	if deleted := len(ids) - len(found); deleted > 0 {
		counts["DELETED"] = deleted
	}
	return counts
}

// contextAfter is for what a test does when it is over.
func contextAfter(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }

// reached waits until a run is in a state.
func reached(t *testing.T, id, state string) prefectserver.FlowRun {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	run, err := w.Prefect.WaitForState(ctx, id, state)
	if err != nil {
		t.Fatalf("%v\n%s", err, w.Story(t.Context(), id))
	}
	return run
}

// completed waits until runs are COMPLETED.
func completed(t *testing.T, ids []string) []prefectserver.FlowRun {
	t.Helper()
	done := make([]prefectserver.FlowRun, len(ids))
	for i, id := range ids {
		done[i] = reached(t, id, "COMPLETED")
	}
	return done
}

// jobsOf lists the names of the Jobs that a run has.
func jobsOf(t *testing.T, id string) []string {
	t.Helper()
	names, err := listJobs(t, id)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func listJobs(t *testing.T, id string) (names []string, err error) {
	jobs, err := w.Cluster.Client.BatchV1().Jobs("").List(t.Context(), metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + id})
	if err != nil {
		return nil, err
	}
	for _, j := range jobs.Items {
		names = append(names, j.Namespace+"/"+j.Name)
	}
	return names, nil
}

// tally counts what became of runs.
type tally struct {
	runs, jobs, lost, doubled, executions int
	makers                                map[string]int // Jobs made, by user
}

func (c tally) String() string {
	return fmt.Sprintf("runs: %d, Jobs made: %d, executions: %d, lost: %d, doubled: %d", c.runs, c.jobs, c.executions, c.lost, c.doubled)
}

// once holds runs to the promise: one Job made, by the audit log, and one
// execution.
func once(t *testing.T, prefix string, ids []string) tally {
	t.Helper()
	creations, err := w.Cluster.JobCreations()
	if err != nil {
		t.Fatal(err)
	}
	count := tally{runs: len(ids), makers: map[string]int{}}
	for _, c := range creations {
		if c.ResponseStatus.Code == 201 && strings.HasPrefix(c.ObjectRef.Name, prefix) {
			count.jobs++
			count.makers[c.User.Username]++
		}
	}
	executions, err := w.Executions()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		jobs := jobsOf(t, id)
		count.executions += executions[id]
		switch {
		case len(jobs) == 0 || executions[id] == 0:
			count.lost++
		case len(jobs) > 1 || executions[id] > 1:
			count.doubled++
		default:
			continue
		}
		t.Errorf("run %s has Jobs %v and %d executions", id, jobs, executions[id])
	}
	if count.jobs != len(ids) {
		t.Errorf("the audit log has %d Jobs made for %d runs", count.jobs, len(ids))
	}
	return count
}
