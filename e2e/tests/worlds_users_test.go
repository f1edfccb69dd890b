package tests

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/world"
)

const elsewhere = "world-elsewhere" // a second namespace that Slipway may use

// redeployed is what its owner does to a deployment while a dispatcher lies dead
// over one of its runs.
type redeployed struct {
	name  string
	kind  kind
	made  bool           // the Job was made, and its pid was not written
	known bool           // Jobs of the work pool have been where the claim says
	first map[string]any // job variables before
	then  map[string]any // and after
	do    func(t *testing.T, p place, pool, deployment string)
}

func redeployments() []redeployed {
	completed := kind{name: "claimed", attempts: 1, end: "COMPLETED"}
	waits := kind{name: "waits", due: 30 * time.Second, attempts: 1, end: "COMPLETED"}
	flies := kind{name: "in flight", waits: true, attempts: 1, end: "COMPLETED"}
	gone := kind{name: "claimed", attempts: 0, end: "CANCELLED", allowed: map[string]int{"CANCELLED": 1}}
	renamed := map[string]any{"name": "renewed"}
	moved := map[string]any{"namespace": elsewhere}
	toOther := func(t *testing.T, p place, pool, deployment string) {
		p.pool(t, pool+"-other", nil)
		p.call(t, "PATCH", "/deployments/"+deployment, map[string]any{"work_pool_name": pool + "-other"})
	}
	deleted := func(t *testing.T, p place, _, deployment string) {
		p.call(t, "DELETE", "/deployments/"+deployment, nil)
	}
	return []redeployed{
		{name: "renamed before the Job", kind: completed, then: renamed},
		{name: "renamed after the Job", kind: flies, made: true, then: renamed},
		{name: "renamed while the Job waits", kind: waits, made: true, then: renamed},
		{name: "another namespace before the Job", kind: completed, known: true, then: moved},
		{name: "another namespace after the Job", kind: flies, made: true, then: moved},
		{name: "another namespace while the Job waits", kind: waits, made: true, then: moved},
		{name: "another image before the Job", kind: completed, first: map[string]any{"image": "registry.invalid/none:1"}, then: map[string]any{"image": world.Probe}},
		{name: "deleted before the Job", kind: gone, do: deleted},
		{name: "deleted after the Job", kind: flies, made: true, do: deleted},
		{name: "deleted while the Job waits", kind: waits, made: true, do: deleted},
		{name: "another pool before the Job", kind: completed, do: toOther},
		{name: "another pool after the Job", kind: flies, made: true, do: toOther},
	}
}

// TestWorldRedeployed: between the claim and the Job, or after it, a deployment gets
// another name, namespace, image or pool, or is deleted. The run has one Job, and
// one execution.
func TestWorldRedeployed(t *testing.T) {
	t.Parallel() // it mostly waits
	if err := w.Allow(t.Context(), "slipway", elsewhere); err != nil {
		t.Fatal(err)
	}
	for _, clusterWide := range []bool{false, true} {
		for i, c := range redeployments() {
			if !full && clusterWide == (i%2 == 0) {
				continue // every other one with either rights
			}
			t.Run(c.name+", "+rights(clusterWide), func(t *testing.T) {
				t.Parallel()
				redeploy(t, c, first(t, clusterWide), fmt.Sprintf("redone-%s-%d", rights(clusterWide)[:4], i))
			})
		}
	}
}

func redeploy(t *testing.T, c redeployed, p place, pool string) {
	t.Helper()
	until := newSignal(t)
	variables := map[string]any{"image": world.Probe, "namespace": world.Namespace, "service_account_name": "worker", "name": pool}
	maps.Copy(variables, c.first)
	d := p.pool(t, pool, variables)
	subjects := []*subject{}
	if c.known {
		subjects = append(subjects, p.subject(t, kinds()[0], d, until))
		p.claim(t, subjects, pool)
	}
	s := p.subject(t, c.kind, d, until)
	subjects = append(subjects, s)
	p.killedAt(t, makesJob, c.made, "dispatch", "--work-pool", pool)
	if c.then != nil {
		maps.Copy(variables, c.then)
		p.call(t, "PATCH", "/deployments/"+d, map[string]any{"job_variables": variables})
	}
	if c.do != nil {
		c.do(t, p, pool, d)
	}
	come := start(t, trigger{p.with("SLIPWAY_ORPHAN_GRACE=0s"), []string{pool}})
	come.more(t, 3)
	until.give(t)
	untilEnded(t, subjects)
	come.more(t, 1)
	come.stop()
	judge(t, c.name+", "+rights(p.kubeconfig != w.Kubeconfig), pool+"-", 1, subjects, "")
}

// TestWorldCancellationHooks: a flow whose on_cancellation hook takes seconds is
// cancelled, with a sweep every second. The engine runs the hook and says CANCELLED.
func TestWorldCancellationHooks(t *testing.T) {
	t.Parallel() // it mostly waits
	const pool = "hooks"
	p := first(t, false, "SLIPWAY_SETTLE_GRACE=5m")
	hooks := filepath.Join(t.TempDir(), "hooks")
	folder := filepath.Join(world.Root(), "e2e", "tests", "testdata", "hooks")
	p.pool(t, pool, nil)
	flow, err := p.server.CreateFlow(t.Context(), "endless")
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.server.CreateDeployment(t.Context(), flow, "hooks", pool, map[string]any{
		"entrypoint": "hooks.py:endless", "path": folder,
		"pull_steps":    []any{map[string]any{"prefect.deployments.steps.set_working_directory": map[string]any{"directory": folder}}},
		"job_variables": map[string]any{"image": world.Image, "namespace": world.Namespace, "service_account_name": "worker", "name": pool, "env": map[string]string{"HOOKS": hooks}},
	})
	if err != nil {
		t.Fatal(err)
	}
	id, err := p.server.CreateRun(t.Context(), d, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &subject{kind: kind{name: "with a hook", end: "CANCELLED", allowed: map[string]int{"CANCELLED": 1}, attempts: 1}, place: p, id: id}
	p.claim(t, []*subject{s}, pool)
	untilRunning(t, s)
	if err := cancel(t.Context(), p.server, id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "CANCELLED", func() bool {
		p.sweep(t, pool)
		look(t, []*subject{s})
		return s.state == "CANCELLED"
	})
	ran, _ := os.ReadFile(hooks)
	row := proven{what: "cancelled, with an on_cancellation hook", runs: 1, jobs: jobsMade(t, pool+"-")}
	if harm := s.harm(t, jobsDeleted(t, pool+"-")); strings.TrimSpace(string(ran)) != id || row.jobs != 1 || len(harm) > 0 {
		row.harmed++
		t.Errorf("the hook noted %q, %d Jobs, %v\n%s", ran, row.jobs, harm, w.Story(t.Context(), id))
	}
	record(row)
}

// TestWorldCrashedFromOutside: a run is set to CRASHED while its pod lives, which
// puts the run back when it is told to end. No sweep brings it to life again.
func TestWorldCrashedFromOutside(t *testing.T) {
	t.Parallel() // it mostly waits
	const pool = "outside"
	p := first(t, false)
	until := newSignal(t)
	d := p.pool(t, pool, nil)
	k := kind{name: "crashed from outside", env: map[string]string{"PROBE_SIGTERM": "reschedule"}, waits: true, holds: "RUNNING",
		attempts: 1, end: "CRASHED", allowed: map[string]int{"CRASHED": 1}}
	subjects := []*subject{p.subject(t, k, d, until), p.subject(t, k, d, until)}
	p.claim(t, subjects, pool)
	untilHeld(t, subjects)
	for _, s := range subjects {
		if err := p.server.SetState(t.Context(), s.id, map[string]any{"type": "CRASHED", "message": "by its user"}); err != nil {
			t.Fatal(err)
		}
	}
	come := start(t, trigger{p, []string{pool}})
	since := time.Now() // past the grace that the pods have to end
	eventually(t, "40 seconds", func() bool { return time.Since(since) > 40*time.Second })
	come.more(t, 3)
	come.stop()
	judge(t, "CRASHED from outside while the pod lives", pool+"-", 0, subjects, "")
}

// TestWorldStuckPodRetried: the pod of a run can never start; the run is crashed, by
// SLIPWAY_START_LIMITS or by its user, the image is mended, and the run is retried
// at once. The retry has its Job.
func TestWorldStuckPodRetried(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, clusterWide := range map[string]bool{"by its user": true, "by the start limit": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := first(t, clusterWide)
			pool := "mended-" + name[len(name)-4:]
			d := p.pool(t, pool, map[string]any{"image": "registry.invalid/none:1"})
			s := p.subject(t, kind{name: name, attempts: 2, end: "COMPLETED", allowed: map[string]int{"SCHEDULED": 1, "CRASHED": 1}}, d, "")
			p.claim(t, []*subject{s}, pool)
			stuck := func() bool { return strings.Contains(podReason(t, s.id), "ErrImagePull") }
			eventually(t, "the pod waits for its image", stuck)
			if clusterWide {
				if err := p.server.SetState(t.Context(), s.id, map[string]any{"type": "CRASHED"}); err != nil {
					t.Fatal(err)
				}
			} else {
				limited := p.with("SLIPWAY_START_LIMITS=ImagePullError:1s")
				eventually(t, "CRASHED", func() bool { limited.sweep(t, pool); look(t, []*subject{s}); return s.state == "CRASHED" })
			}
			p.call(t, http.MethodPatch, "/deployments/"+d, map[string]any{"job_variables": map[string]any{
				"image": world.Probe, "namespace": world.Namespace, "service_account_name": "worker", "name": pool}})
			if err := retry(t.Context(), p.server, s.id); err != nil {
				t.Fatal(err)
			}
			come := start(t, trigger{p, []string{pool}})
			drive(t, []*subject{s}, true, func(s *subject) bool { return s.state == "COMPLETED" })
			come.stop()
			once, harm := executionsOf(t, s.id), s.harm(t, jobsDeleted(t, pool+"-"))
			row := proven{what: "a stuck pod, crashed " + name + ", retried", runs: 1, jobs: jobsMade(t, pool+"-"), lost: max(0, 1-once), doubled: max(0, once-1), harmed: len(harm)}
			if once != 1 || row.jobs != 2 || len(harm) > 0 {
				t.Errorf("the run is %s after %d executions and %d Jobs; %v\n%s", s.state, once, row.jobs, harm, w.Story(t.Context(), s.id))
			}
			if s.state != "COMPLETED" {
				row.stuck = 1
			}
			record(row)
		})
	}
}

// podReason is why the container of a run's pod waits.
func podReason(t *testing.T, id string) string {
	t.Helper()
	pods, err := w.Cluster.Client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + id})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Waiting != nil {
				return c.State.Waiting.Reason
			}
		}
	}
	return ""
}
