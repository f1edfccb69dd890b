package tests

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
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
	p.with("SLIPWAY_SETTLE_GRACE=10m").claim(t, []*subject{model}, pool) // its Job stays
	untilJobEnded(t, model)
	finishedJobs(t, n, label, &jobObjects(t, model.id)[0])
	t.Cleanup(func() {
		jobs, background := w.Cluster.Client.BatchV1().Jobs("dev"), metav1.DeletePropagationBackground
		eventually(t, "they are deleted", func() bool { // which may take longer than a request
			err := jobs.DeleteCollection(contextAfter(t), metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{LabelSelector: label})
			return err == nil
		})
	})
	subjects := []*subject{model}
	for _, k := range someKinds(3) {
		subjects = append(subjects, p.subject(t, k, d, until))
	}
	peak := map[bool]int64{}
	measure := func(clusterWide bool, verb string) {
		result, memory, err := w.PeakMemory(t.Context(), first(t, clusterWide).env(), verb, "--work-pool", pool)
		if err != nil || result.Code != 0 && result.Code != 4 {
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

// finishedJobs makes Jobs that are like a finished one in all, but that no controller
// looks at, that they are of runs that Prefect has forgotten, and that every fifth has
// failed.
func finishedJobs(t *testing.T, n int, label string, model *batchv1.Job) {
	t.Helper()
	var all sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		all.Go(func() {
			for i := next.Add(1); int(i) <= n && !t.Failed(); i = next.Add(1) {
				if err := finishedJob(t.Context(), label, model, i%5 == 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func finishedJob(ctx context.Context, label string, model *batchv1.Job, failed bool) error {
	nobody := "test.slipway/nobody"
	job := &batchv1.Job{Spec: *model.Spec.DeepCopy()}
	job.Spec.Selector, job.Spec.ManagedBy, job.Spec.Template.Labels = nil, &nobody, nil
	job.GenerateName, job.Namespace = "old-", model.Namespace
	job.Labels, job.Annotations = maps.Clone(model.Labels), maps.Clone(model.Annotations)
	maps.DeleteFunc(job.Labels, func(key, _ string) bool {
		return strings.HasSuffix(key, "controller-uid") || strings.HasSuffix(key, "job-name")
	})
	job.Labels[label] = ""
	job.Labels["prefect.io/flow-run-id"] = uuid.NewString()
	job.Annotations["slipway/transition-id"] = uuid.NewString()
	jobs := w.Cluster.Client.BatchV1().Jobs(model.Namespace)
	made, err := jobs.Create(ctx, job, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = *model.Status.DeepCopy()
	made.Status.StartTime, made.Status.CompletionTime = &made.CreationTimestamp, &made.CreationTimestamp
	if failed {
		made.Status = batchv1.JobStatus{StartTime: &made.CreationTimestamp, Failed: 1}
		for _, kind := range []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobFailed} {
			made.Status.Conditions = append(made.Status.Conditions, batchv1.JobCondition{
				Type: kind, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded", LastTransitionTime: made.CreationTimestamp})
		}
	}
	_, err = jobs.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}
