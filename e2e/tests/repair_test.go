package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/dispatch/claim"
	"slipway/e2e/world"
)

// logOf is a run's log as the UI shows it.
func logOf(t *testing.T, id string) string {
	t.Helper()
	var lines []struct {
		Message string `json:"message"`
	}
	filter := map[string]any{"logs": map[string]any{"flow_run_id": map[string]any{"any_": []string{id}}}, "sort": "TIMESTAMP_ASC"}
	if err := w.Prefect.Call(t.Context(), "POST", "/logs/filter", filter, &lines); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, l := range lines {
		text.WriteString(l.Message + "\n")
	}
	return text.String()
}

// sweep makes one sweep of a pool.
func sweep(t *testing.T, pool string, env ...string) string {
	t.Helper()
	result, err := w.SlipwayWith(t.Context(), env, "sweep", "--work-pool", pool, "-o", "wide")
	if err != nil || result.Code != 0 && !outOfTime(result) {
		t.Fatalf("slipway sweep ended with %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	return result.Stdout
}

// eventually repeats a check until it holds.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !check(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: this does not come about within %s", what, waitLimit)
		}
	}
}

func stateOf(t *testing.T, id string) string {
	t.Helper()
	run, err := w.Prefect.FlowRun(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return run.StateType
}

// TestPodsRefusedByQuota: the run's log says why there is no pod, once; the run is
// not called crashed, and goes on when the quota lets it.
func TestPodsRefusedByQuota(t *testing.T) {
	d := pool(t, "podless", nil)
	quotas := w.Cluster.Client.CoreV1().ResourceQuotas("dev")
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "no-pods"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("0")}}}
	if _, err := quotas.Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	removed := false
	remove := func() {
		if err := quotas.Delete(t.Context(), "no-pods", metav1.DeleteOptions{}); err != nil && !removed {
			t.Error(err)
		}
		removed = true
	}
	defer remove()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "tried"}, Spec: corev1.PodSpec{
		ServiceAccountName: "worker", Containers: []corev1.Container{{Name: "c", Image: "i"}},
	}}
	quotaHolds(t, func(dry metav1.CreateOptions) error {
		_, err := w.Cluster.Client.CoreV1().Pods("dev").Create(t.Context(), pod, dry)
		return err
	})
	id := runs(t, d, 1, time.Now())[0]
	claimOnly(t, "podless", id)
	toldOnce(t, "podless", id, "does not start: QuotaExceeded: Error creating: pods ")
	remove()
	completed(t, []string{id})
}

// podName is in the quota's message: each attempt has another.
var podName = regexp.MustCompile(`pods "[^"]*"`)

// toldOnce waits until the run's log says what keeps its pod from starting, and until a
// sweep has found it there. The run is still PENDING, and no line is there twice.
func toldOnce(t *testing.T, pool, id, words string) {
	t.Helper()
	eventually(t, "a line that "+words, func() bool {
		sweep(t, pool, "SLIPWAY_SETTLE_GRACE=1s")
		return strings.Contains(logOf(t, id), words)
	})
	eventually(t, "a sweep with nothing new to tell", func() bool {
		return strings.Contains(sweep(t, pool, "SLIPWAY_SETTLE_GRACE=1s"), "told before")
	})
	seen := map[string]int{}
	for line := range strings.Lines(logOf(t, id)) {
		if strings.Contains(line, words) {
			seen[podName.ReplaceAllString(line, "pods")]++
		}
	}
	for line, n := range seen {
		if n != 1 {
			t.Errorf("told %d times: %s", n, line)
		}
	}
	if state := stateOf(t, id); state != "PENDING" {
		t.Errorf("the run is %s", state)
	}
}

// claimOnly makes passes without a sweep until a run is claimed.
func claimOnly(t *testing.T, pool, id string) {
	t.Helper()
	dispatchAll(t, []string{id}, "--work-pool", pool, "--no-sweep")
}

func dispatchOnly(t *testing.T, pool string) {
	t.Helper()
	dispatch(t, "--work-pool", pool, "--no-sweep")
}

// TestImageThatCannotBePulled: told in the log and as an event; crashed when the
// settings say so, and its Job removed.
func TestImageThatCannotBePulled(t *testing.T) {
	id := runs(t, pool(t, "image", map[string]any{"image": "registry.invalid/none:1"}), 1, time.Now())[0]
	claimOnly(t, "image", id)
	toldOnce(t, "image", id, "does not start: ImagePullError: ")
	pods, err := w.Cluster.Client.CoreV1().Pods("dev").List(t.Context(), metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + id})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	var found struct {
		Events []struct {
			Event    string            `json:"event"`
			Resource map[string]string `json:"resource"`
		} `json:"events"`
	}
	filter := map[string]any{"filter": map[string]any{"occurred": map[string]any{"since": time.Now().Add(-time.Hour)}, "resource": map[string]any{"id": []string{"prefect.kubernetes.pod." + string(pods.Items[0].UID)}}}}
	eventually(t, "the pod's event", func() bool {
		if err := w.Prefect.Call(t.Context(), "POST", "/events/filter", filter, &found); err != nil {
			t.Fatal(err)
		}
		return len(found.Events) > 0
	})
	if e := found.Events[0]; len(found.Events) != 1 || e.Event != "prefect.kubernetes.pod.pending" || e.Resource["kubernetes.diagnosis"] != "ImagePullError" {
		t.Errorf("%+v", found.Events)
	}
	eventually(t, "the end of its run", func() bool {
		sweep(t, "image", "SLIPWAY_SETTLE_GRACE=1s", "SLIPWAY_START_LIMITS=ImagePullError:1s")
		return stateOf(t, id) != "PENDING"
	})
	if run, err := w.Prefect.FlowRun(t.Context(), id); err != nil || run.StateType != "CRASHED" || !strings.Contains(run.State.Message, "registry.invalid/none:1") {
		t.Errorf("%s %v, %v", run.StateType, run.State, err)
	}
	out := ""
	eventually(t, "the end of its Job", func() bool {
		defer func() { t.Log(out, jobsOf(t, id)) }()
		out = sweep(t, "image", "SLIPWAY_SETTLE_GRACE=1s")
		return len(jobsOf(t, id)) == 0
	})
}

// TestBackoff: pods that die while the Job has tries left crash nothing.
func TestBackoff(t *testing.T) {
	t.Parallel() // it mostly waits
	// The base job template fixes backoffLimit: 0, as Prefect's own does.
	template := withBackoff(t, 3)
	if err := w.Prefect.CreatePool(t.Context(), "backoff", template); err != nil {
		t.Fatal(err)
	}
	id := runs(t, deploy(t, "backoff", "backoff", map[string]any{"env": map[string]string{"PROBE_FALSE_STARTS": "1"}}, nil), 1, time.Now())[0]
	claimOnly(t, "backoff", id)
	eventually(t, "COMPLETED", func() bool {
		sweep(t, "backoff")
		state := stateOf(t, id)
		if state == "CRASHED" {
			t.Fatalf("a pod that the Job replaces was called crashed\n%s", w.Story(t.Context(), id))
		}
		return state == "COMPLETED"
	})
	eventually(t, "the end of its Job", func() bool {
		jobs, err := w.Cluster.Client.BatchV1().Jobs("dev").List(t.Context(), metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + id})
		if err != nil || len(jobs.Items) != 1 {
			t.Fatalf("%d Jobs, %v", len(jobs.Items), err)
		}
		status := jobs.Items[0].Status
		if status.CompletionTime != nil && status.Failed == 0 {
			t.Error("no pod died")
		}
		return status.CompletionTime != nil
	})
}

// TestSlotsAreFree: an orphan holds its deployment's slot; the sweep frees it, by
// making the Job of one of Slipway's and by giving back somebody else's.
func TestSlotsAreFree(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, foreign := range map[string]bool{"ours": false, "foreign": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			poolName := "slots-" + name
			if err := w.CreatePool(t.Context(), poolName); err != nil {
				t.Fatal(err)
			}
			d := deploy(t, poolName, poolName, nil, map[string]any{"concurrency_limit": 1})
			orphan := runs(t, d, 1, time.Now())[0]
			claim := claimOf(t, orphan, foreign)
			set(t, orphan, map[string]any{"type": "PENDING", "name": "Pending", "state_details": map[string]any{"transition_id": claim}})
			next := runs(t, d, 1, time.Now())[0]
			// A pass on a busy machine may skip what its poll returned too long ago.
			eventually(t, "a run that waits for the slot", func() bool {
				if r := dispatch(t, "--work-pool", poolName, "--no-sweep"); r.Submitted != 0 {
					t.Fatalf("the slot is free already: %+v", r)
				}
				run, err := w.Prefect.FlowRun(t.Context(), next)
				return err == nil && run.StateName == "AwaitingConcurrencySlot"
			})
			eventually(t, "the orphan's repair", func() bool {
				sweep(t, poolName, "SLIPWAY_ORPHAN_GRACE=0s", "SLIPWAY_FOREIGN_ORPHAN_GRACE=500ms")
				return foreign && stateOf(t, orphan) == "SCHEDULED" || !foreign && len(jobsOf(t, orphan)) == 1
			})
			eventually(t, "both COMPLETED", func() bool {
				dispatchOnly(t, poolName)
				return stateOf(t, orphan) == "COMPLETED" && stateOf(t, next) == "COMPLETED"
			})
			// Prefect releases a slot after it has stored the state.
			eventually(t, "free slots of the deployment", func() bool {
				var deployment struct {
					Global struct {
						ActiveSlots int `json:"active_slots"`
					} `json:"global_concurrency_limit"`
				}
				err := w.Prefect.Call(t.Context(), "GET", "/deployments/"+d, nil, &deployment)
				return err == nil && deployment.Global.ActiveSlots == 0
			})
			eventually(t, "free slots of the work pool", func() bool {
				var pool struct {
					ActiveSlots int `json:"active_slots"`
				}
				err := w.Prefect.Call(t.Context(), "GET", "/work_pools/"+poolName, nil, &pool)
				return err == nil && pool.ActiveSlots == 0
			})
		})
	}
}

// claimOf is the transition id of a claim: Slipway's for this cluster, or a
// worker's.
func claimOf(t *testing.T, run string, foreign bool) string {
	t.Helper()
	if foreign {
		return "11111111-1111-4111-8111-111111111111"
	}
	system, err := w.Cluster.Client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := claim.NewID(string(system.UID), run)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func set(t *testing.T, run string, state map[string]any) {
	t.Helper()
	if err := w.Prefect.Call(t.Context(), "POST", "/flow_runs/"+run+"/set_state", map[string]any{"state": state}, nil); err != nil {
		t.Fatal(err)
	}
}

// TestCancelByHook: an automation's webhook ends a cancelled run's pod without any
// other trigger.
func TestCancelByHook(t *testing.T) {
	id := runs(t, pool(t, "hooked", map[string]any{"env": map[string]string{"PROBE_SECONDS": "600"}}), 1, time.Now())[0]
	address := serve(t, "hooked")
	eventually(t, "a claim", func() bool {
		hook(t, address, "hooked")
		return stateOf(t, id) != "SCHEDULED"
	})
	running(t, id)
	set(t, id, map[string]any{"type": "CANCELLING"})
	started := time.Now()
	hook(t, address, "hooked")
	eventually(t, "CANCELLED", func() bool { return stateOf(t, id) == "CANCELLED" })
	t.Logf("CANCELLED %s after the webhook", time.Since(started).Round(100*time.Millisecond))
	if jobs := jobsOf(t, id); len(jobs) != 0 {
		t.Errorf("Jobs are left: %v", jobs)
	}
}

// TestPlacesThatChange: what a pass works on is paused, deleted or moved while it
// is at it. Each run ends with a clear state, and none is stuck.
func TestPlacesThatChange(t *testing.T) {
	for name, c := range map[string]struct {
		at   string // the request before which it happens: the end of its path
		do   func(t *testing.T, pool, deployment, namespace string)
		want func(states map[string]int) bool
	}{
		"pool paused": {"/set_state", func(t *testing.T, pool, _, _ string) {
			call(t, "PATCH", "/work_pools/"+pool, map[string]any{"is_paused": true})
		}, func(s map[string]int) bool { return s["COMPLETED"]+s["SCHEDULED"] == 4 && s["COMPLETED"] > 0 }},
		"pool deleted": {"/set_state", func(t *testing.T, pool, _, _ string) {
			call(t, "DELETE", "/work_pools/"+pool, nil)
		}, func(s map[string]int) bool { return s["PENDING"]+s["RUNNING"] == 0 && s["COMPLETED"] > 0 }},
		"deployment deleted": {"/set_state", func(t *testing.T, _, deployment, _ string) {
			call(t, "DELETE", "/deployments/"+deployment, nil)
		}, func(s map[string]int) bool { return s["PENDING"]+s["RUNNING"]+s["SCHEDULED"] == 0 }}, // which deletes its scheduled runs
		"deployment moved": {"/set_state", func(t *testing.T, pool, deployment, _ string) {
			if err := w.CreatePool(t.Context(), pool+"-other"); err != nil {
				t.Error(err)
			}
			call(t, "PATCH", "/deployments/"+deployment, map[string]any{"work_pool_name": pool + "-other"})
		}, func(s map[string]int) bool { return s["COMPLETED"] == 4 }},
		"namespace deleted": {"/jobs", func(t *testing.T, _, _, namespace string) {
			if err := w.Cluster.Client.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}, func(s map[string]int) bool { return s["CRASHED"] == 4 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			poolName := "place-" + strings.ReplaceAll(name, " ", "-")
			namespace := "dev"
			if c.at == "/jobs" {
				namespace = "doomed"
				newNamespace(t, namespace)
			}
			d := pool(t, poolName, map[string]any{"namespace": namespace})
			ids := runs(t, d, 4, time.Now())
			gate := newCutter(t)
			done := false
			gate.on = func(_ int, r *http.Request) {
				if !done && r.Method == "POST" && strings.HasSuffix(r.URL.Path, c.at) {
					done = true
					c.do(t, poolName, d, namespace)
				}
			}
			env := []string{"PREFECT_API_URL=" + gate.prefect.URL + "/api", "KUBECONFIG=" + gate.kubeconfig(t), "SLIPWAY_CONCURRENCY=1", "SLIPWAY_SETTLE_GRACE=1s", "SLIPWAY_START_LIMITS=JobNotCreated:1s"}
			slipway := func() world.Result {
				result, err := w.SlipwayWith(t.Context(), env, "dispatch", "--work-pool", poolName)
				if err != nil {
					t.Fatal(err)
				}
				return result
			}
			var first world.Result
			eventually(t, "a pass in which it happens", func() bool { first = slipway(); return done })
			deadline := time.Now().Add(waitLimit)
			later, states := slipway(), countStates(t, ids)
			for ; !c.want(states); later, states = slipway(), countStates(t, ids) {
				if time.Now().After(deadline) {
					t.Fatalf("the runs are %v\nfirst pass:\n%s%s\nlast pass:\n%s%s", states, first.Stdout, first.Stderr, later.Stdout, later.Stderr)
				}
				time.Sleep(time.Second)
			}
			t.Logf("%v; the pass said:\n%s%s", states, first.Stdout, first.Stderr)
			record(proven{what: name + " in mid-pass", faults: 1, runs: 4, jobs: jobsMade(t, poolName+"-"), note: fmt.Sprint(states)})
		})
	}
}

func call(t *testing.T, method, path string, body any) {
	t.Helper()
	if err := w.Prefect.Call(t.Context(), method, path, body, nil); err != nil {
		t.Error(err)
	}
}

// withBackoff is the example's base job template, with a limit of tries.
func withBackoff(t *testing.T, limit int) json.RawMessage {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(world.Root(), "examples", "etl", "base-job-template.json"))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(data, []byte(`"backoffLimit": 0`), fmt.Appendf(nil, `"backoffLimit": %d`, limit), 1)
	if bytes.Equal(changed, data) {
		t.Fatal("the template has no backoffLimit of 0")
	}
	return changed
}

// newNamespace makes one that Slipway may use.
func newNamespace(t *testing.T, name string) {
	t.Helper()
	if err := w.Cluster.CreateNamespace(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	role, err := os.ReadFile(filepath.Join(world.Root(), "deploy", "namespace", "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Cluster.Apply(t.Context(), name, bytes.NewReader(role)); err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "worker"}}
	if _, err := w.Cluster.Client.CoreV1().ServiceAccounts(name).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The API server takes up a Role a little later. Until then it refuses Slipway's Jobs
	// for good.
	eventually(t, "Slipway's rights in namespace "+name, func() bool {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               "system:serviceaccount:slipway:slipway",
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: name, Verb: "create", Group: "batch", Resource: "jobs"},
		}}
		answer, err := w.Cluster.Client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		return err == nil && answer.Status.Allowed
	})
}

// jobsMade counts the Jobs made whose names begin so, by the audit log.
func jobsMade(t *testing.T, prefix string) int {
	t.Helper()
	creations, err := w.Cluster.JobCreations()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range creations {
		if c.ResponseStatus.Code == http.StatusCreated && strings.HasPrefix(c.ObjectRef.Name, prefix) {
			n++
		}
	}
	return n
}
