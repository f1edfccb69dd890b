package tests

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// memoryLimit is that of the manifests in deploy/.
const memoryLimit = 128 << 20

// TestWorldManyFinishedJobs: the namespace holds very many finished Jobs, as the
// default template leaves them there. Passes and sweeps work as ever.
func TestWorldManyFinishedJobs(t *testing.T) {
	t.Parallel() // it mostly waits
	n := 500
	if full {
		n = 10_000
	}
	const pool, label = "finished", "test.slipway/finished"
	p := first(t, false)
	until := newSignal(t)
	d := p.pool(t, pool, nil)
	model := p.subject(t, kind{name: "model", attempts: 1, end: "COMPLETED"}, d, until)
	p.claim(t, []*subject{model}, pool)
	untilJobEnded(t, model)
	finishedJobs(t, n, label, &jobObjects(t, model.id)[0])
	t.Cleanup(func() {
		background := metav1.DeletePropagationBackground
		if err := w.Cluster.Client.BatchV1().Jobs("dev").DeleteCollection(contextAfter(t), metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{LabelSelector: label}); err != nil {
			t.Error(err)
		}
	})
	subjects := []*subject{model}
	for _, k := range someKinds(3) {
		subjects = append(subjects, p.subject(t, k, d, until))
	}
	peak := map[bool]int64{}
	measure := func(clusterWide bool, verb string) {
		result, memory, err := w.PeakMemory(t.Context(), first(t, clusterWide).env(), verb, "--work-pool", pool)
		if err != nil || result.Code != 0 {
			t.Errorf("slipway %s ended with %d (%v):\n%s%s", verb, result.Code, err, result.Stdout, result.Stderr)
		}
		peak[clusterWide] = max(peak[clusterWide], memory)
	}
	for _, clusterWide := range []bool{false, true} {
		measure(clusterWide, "dispatch")
		measure(clusterWide, "sweep")
	}
	come := start(t, trigger{p, []string{pool}}, trigger{first(t, true), []string{pool}})
	untilHeld(t, subjects)
	come.more(t, 2)
	until.give(t)
	untilEnded(t, subjects)
	come.stop()
	judge(t, fmt.Sprintf("%d finished Jobs beside it", n), pool+"-", 0, subjects,
		fmt.Sprintf("peak memory %d MiB namespaced, %d MiB cluster-wide", peak[false]>>20, peak[true]>>20))
	for _, most := range peak {
		if most > memoryLimit {
			t.Errorf("a pass took %d MiB", most>>20)
		}
	}
}

// finishedJobs makes Jobs that are in all like a finished one, but that no
// controller looks at, and that they are of runs that Prefect has forgotten.
func finishedJobs(t *testing.T, n int, label string, model *batchv1.Job) {
	t.Helper()
	var all sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		all.Go(func() {
			for int(next.Add(1)) <= n && !t.Failed() {
				if err := finishedJob(t.Context(), label, model); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func finishedJob(ctx context.Context, label string, model *batchv1.Job) error {
	nobody := "test.slipway/nobody"
	job := &batchv1.Job{Spec: *model.Spec.DeepCopy()}
	job.Spec.Selector, job.Spec.ManagedBy = nil, &nobody
	job.Spec.Template.Labels = nil
	job.GenerateName, job.Namespace = "old-", model.Namespace
	job.Labels = map[string]string{label: ""}
	for key, value := range model.Labels {
		if key != "controller-uid" && key != "job-name" && key != "batch.kubernetes.io/controller-uid" && key != "batch.kubernetes.io/job-name" {
			job.Labels[key] = value
		}
	}
	job.Annotations = map[string]string{}
	for key, value := range model.Annotations {
		job.Annotations[key] = value
	}
	job.Labels["prefect.io/flow-run-id"] = uuid.NewString()
	job.Annotations["slipway/transition-id"] = uuid.NewString()
	jobs := w.Cluster.Client.BatchV1().Jobs(model.Namespace)
	made, err := jobs.Create(ctx, job, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = *model.Status.DeepCopy()
	made.Status.StartTime = &made.CreationTimestamp
	made.Status.CompletionTime = &made.CreationTimestamp
	_, err = jobs.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}
