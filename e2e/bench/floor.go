package bench

import (
	"context"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
)

// takeJobs counts the Jobs there are, and deletes them for the next contestant.
// The first is kept as the floor's prepared body.
func (b *Bench) takeJobs(ctx context.Context) (int, error) {
	jobs := b.World.Cluster.Client.BatchV1().Jobs(world.Namespace)
	found, err := jobs.List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	if b.prepared == nil && len(found.Items) > 0 {
		b.prepared = prepare(found.Items[0])
	}
	background := metav1.DeletePropagationBackground
	if err := jobs.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{}); err != nil {
		return 0, err
	}
	for {
		pods, err := b.World.Cluster.Client.CoreV1().Pods(world.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return 0, err
		}
		if len(pods.Items) == 0 {
			return len(found.Items), nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// prepare strips a Job of what the cluster added.
func prepare(job batchv1.Job) *batchv1.Job {
	labels := job.Spec.Template.Labels
	for _, key := range []string{"controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"} {
		delete(labels, key)
	}
	body := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{GenerateName: "floor-", Labels: job.Labels}, Spec: job.Spec}
	body.Spec.Selector = nil
	return body
}

// floor does the least that anybody can do: one poll, then for each run a claim,
// a Job and its pid, with a Job made beforehand.
func (b *Bench) floor(ctx context.Context) (Cost, error) {
	cfg := b.World.Cluster.AdminConfig()
	cfg.QPS, cfg.Burst = 1000, 1000
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return Cost{}, err
	}
	before, cpu, started := b.meter.requests.Load(), ownCPU(), time.Now()
	var due []struct {
		Run struct {
			ID string `json:"id"`
		} `json:"flow_run"`
	}
	metered := &prefectserver.Server{API: b.meter.URL + "/api"}
	body := map[string]any{"limit": 200, "scheduled_before": time.Now().UTC().Format(time.RFC3339Nano)}
	if err := metered.Call(ctx, "POST", "/work_pools/"+pool+"/get_scheduled_flow_runs", body, &due); err != nil {
		return Cost{}, err
	}
	var group errgroup.Group
	group.SetLimit(8)
	for _, one := range due {
		group.Go(func() error {
			claim := map[string]any{"state": map[string]any{"type": "PENDING", "name": "Pending", "state_details": map[string]any{"transition_id": uuid.NewString()}}}
			if err := metered.Call(ctx, "POST", "/flow_runs/"+one.Run.ID+"/set_state", claim, nil); err != nil {
				return err
			}
			job, err := client.BatchV1().Jobs(world.Namespace).Create(ctx, b.prepared, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			return metered.Call(ctx, "PATCH", "/flow_runs/"+one.Run.ID, map[string]any{"infrastructure_pid": job.Namespace + ":" + job.Name}, nil)
		})
	}
	if err := group.Wait(); err != nil {
		return Cost{}, err
	}
	// Its memory is that of the whole benchmark, which says nothing.
	return Cost{Wall: time.Since(started), CPU: ownCPU() - cpu, Requests: b.meter.requests.Load() - before}, nil
}

// ownCPU is the processor time of this process so far; the proxy's is in it.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // of oneself it does not fail
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
