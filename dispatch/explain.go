package dispatch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/kube"
	"slipway/prefect"
)

// Explanation says why a flow run has not started, from live reads.
type Explanation struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	State   string   `json:"state"` // its name
	Since   string   `json:"since,omitempty"`
	Pool    string   `json:"work_pool,omitempty"`
	Reasons []string `json:"reasons"` // the likeliest first
}

// explainer gathers reasons; what is found first is likeliest.
type explainer struct {
	*sweep
	run     *prefect.FlowRun
	reasons []string
}

func (e *explainer) because(format string, args ...any) {
	e.reasons = append(e.reasons, e.redact(fmt.Sprintf(format, args...)))
}

// Explain reads what a flow run waits for. Errors are *Error.
func (d *Dispatcher) Explain(ctx context.Context, id string) (*Explanation, error) {
	run, err := d.Prefect.FlowRun(ctx, id)
	if err != nil {
		return nil, notFoundOr(ctx, err, "flow run "+id)
	}
	e := &explainer{sweep: newSweep(d.newPass(run.WorkPoolName, Request{}), true), run: run}
	if err := e.meetServer(ctx); err != nil {
		return nil, err
	}
	switch run.StateType {
	case "SCHEDULED":
		e.scheduled(ctx)
	case "PENDING":
		e.pending(ctx)
	case "RUNNING":
		e.because("it has started")
	case "CANCELLING":
		e.because("it is being cancelled: its Job is deleted by the next sweep, and it is CANCELLED when its pod has ended")
	case "PAUSED":
		e.because("it is paused: resume it in the UI")
	default:
		e.because("it is over: %s", run.StateName)
		if run.State != nil && run.State.Message != "" {
			e.because("%s", run.State.Message)
		}
	}
	x := &Explanation{ID: run.ID, Name: run.Name, State: run.StateName, Pool: run.WorkPoolName, Reasons: e.reasons}
	if run.State != nil {
		x.Since = run.State.Timestamp.UTC().Format(time.RFC3339)
	}
	return x, nil
}

// scheduled goes through what keeps a run from being claimed.
func (e *explainer) scheduled(ctx context.Context) {
	if e.run.WorkPoolName == "" {
		e.because("it belongs to no work pool: give its deployment one, and delete it")
		return
	}
	if e.run.EmpiricalPolicy.RetryType == "in_process" {
		e.because("its own engine tries it again, in the pod that it has; no pass claims it")
	}
	if !strings.HasPrefix(e.run.StateName, "Awaiting") {
		e.notDue("it is due at %s, in %s; passes claim it up to SLIPWAY_LOOK_AHEAD earlier")
	}
	e.poolHolds(ctx)
	e.queueHolds(ctx)
	e.deploymentHolds(ctx)
	e.formerAttempt(ctx)
	if s := e.run.State; s != nil && s.Name == "AwaitingRetry" && s.Message != "" {
		e.because("its last attempt was given back: %s", s.Message)
	}
	if strings.HasPrefix(e.run.StateName, "Awaiting") {
		e.notDue("its next try is at %s, in %s")
	}
	e.nobodyLooks(ctx)
	if len(e.reasons) == 0 {
		e.because("nothing holds it back: the next pass claims it")
	}
}

func (e *explainer) notDue(format string) {
	at := due(*e.run)
	if at.IsZero() || !at.After(e.Now()) {
		return
	}
	e.because(format, at.UTC().Format(time.RFC3339), at.Sub(e.Now()).Round(time.Second))
}

var active = []string{"PENDING", "RUNNING"}

func (e *explainer) poolHolds(ctx context.Context) {
	pool, err := e.Prefect.WorkPool(ctx, e.run.WorkPoolName)
	if err != nil {
		e.because("its work pool cannot be read: %v", err)
		return
	}
	switch {
	case pool.Type != "kubernetes":
		e.because("its work pool %s is of type %s, which Slipway does not serve", pool.Name, pool.Type)
	case pool.IsPaused:
		e.because("its work pool is paused: prefect work-pool resume %s", pool.Name)
	}
	e.full(ctx, "its work pool "+pool.Name, pool.ConcurrencyLimit, prefect.RunFilter{WorkPool: pool.Name, StateTypes: active})
}

func (e *explainer) queueHolds(ctx context.Context) {
	queues, err := e.Prefect.WorkQueues(ctx, e.run.WorkPoolName)
	if err != nil {
		e.because("its work queue cannot be read: %v", err)
	}
	for _, q := range queues {
		if q.ID != e.run.WorkQueueID {
			continue
		}
		if q.IsPaused {
			e.because("its work queue is paused: prefect work-queue resume --pool %s %s", e.run.WorkPoolName, q.Name)
		}
		e.full(ctx, "its work queue "+q.Name, q.ConcurrencyLimit, prefect.RunFilter{WorkQueue: q.ID, StateTypes: active})
	}
}

func (e *explainer) deploymentHolds(ctx context.Context) {
	if e.run.DeploymentID == "" {
		return
	}
	d, err := e.Prefect.Deployment(ctx, e.run.DeploymentID)
	switch {
	case isNotFound(err):
		e.because("its deployment %s is deleted", e.run.DeploymentID)
	case err != nil:
		e.because("its deployment cannot be read: %v", err)
	default:
		e.full(ctx, "its deployment "+d.Name, d.ConcurrencyLimit, prefect.RunFilter{Deployment: d.ID, StateTypes: append([]string{"CANCELLING"}, active...)})
	}
}

// full tells who holds the slots of a limit.
func (e *explainer) full(ctx context.Context, what string, limit *int, by prefect.RunFilter) {
	if limit == nil {
		return
	}
	runs, err := e.Prefect.FlowRuns(ctx, by)
	if err != nil {
		e.because("who holds the %d slots of %s cannot be read: %v", *limit, what, err)
		return
	}
	if len(runs) < *limit {
		return
	}
	const named = 5
	var holders []string
	for _, run := range runs[:min(named, len(runs))] {
		holders = append(holders, fmt.Sprintf("%s (%s, %s)", run.Name, run.ID, run.StateName))
	}
	if len(runs) > named {
		holders = append(holders, fmt.Sprintf("and %d more", len(runs)-named))
	}
	e.because("the concurrency limit %d of %s is reached, by %s", *limit, what, strings.Join(holders, ", "))
}

// formerAttempt looks for the Job that keeps a second attempt from being claimed.
func (e *explainer) formerAttempt(ctx context.Context) {
	namespace, name, err := placeOf(e.run.InfrastructurePID)
	if err != nil {
		return
	}
	job, err := e.Kube.Job(ctx, namespace, name)
	if err == nil && !job.Finished {
		e.because("Job %s/%s of its earlier attempt is still active: kubectl delete job -n %s %s", namespace, name, namespace, name)
	}
}

// nobodyLooks tells of heartbeats that have stopped.
func (e *explainer) nobodyLooks(ctx context.Context) {
	workers, err := e.Prefect.Workers(ctx, e.run.WorkPoolName)
	if err != nil {
		return
	}
	var last *prefect.Worker
	for i, worker := range workers {
		if worker.Status == "ONLINE" {
			return
		}
		if last == nil || worker.LastHeartbeat.After(last.LastHeartbeat) {
			last = &workers[i]
		}
	}
	if last == nil {
		e.because("nobody has ever looked at the work pool: start a trigger (deploy/overlays/cronjob), with %s in SLIPWAY_WORK_POOLS", e.run.WorkPoolName)
		return
	}
	e.because("nobody looks at the work pool: the last heartbeat, of %q, is %s old; check the CronJob", last.Name, e.Now().Sub(last.LastHeartbeat).Round(time.Second))
}

// pending goes from the claim to the pod.
func (e *explainer) pending(ctx context.Context) {
	if err := e.meetCluster(ctx); err != nil {
		e.because("its claim cannot be told apart from others': %v", err)
		return
	}
	e.listJobs(ctx, []prefect.FlowRun{*e.run})
	one := suspect{run: e.run}
	if err := e.claimOf(ctx, &one, e.jobsOf(e.run.ID)); err != nil {
		e.because("its states cannot be read: %v", err)
		return
	}
	job := one.job
	if mine := e.jobsOf(e.run.ID); job == nil && len(mine) > 0 {
		job = mine[len(mine)-1]
	}
	if job == nil {
		e.withoutJob(one)
		return
	}
	e.withJob(ctx, job, one.claim)
	if one.claim != nil {
		e.because("claimed by %s, %s ago", by(one.whose), one.age(e.Now()).Round(time.Second))
	}
}

func by(w whose) string {
	if w == ours {
		return "Slipway in this cluster"
	}
	return "somebody else: a Python worker, or Slipway in another cluster"
}

func (e *explainer) withoutJob(one suspect) {
	age := one.age(e.Now()).Round(time.Second)
	switch {
	case len(e.whole) == 0:
		e.because("its Jobs cannot be listed: %s", strings.Join(e.report.Warnings, "; "))
	case one.whose != ours:
		e.because("claimed %s ago by %s, and no Job of it is seen here; SLIPWAY_FOREIGN_ORPHAN_GRACE lets the sweep give such runs back", age, by(one.whose))
	case age <= e.OrphanGrace:
		e.because("claimed %s ago, and its Job is being made", age)
	default:
		e.because("claimed %s ago, and its Job was never made: the next sweep makes it", age)
	}
}

// withJob tells of the Job and of its newest pod.
func (e *explainer) withJob(ctx context.Context, job *kube.JobStatus, claim *prefect.State) {
	place := job.Namespace + "/" + job.Name
	switch {
	case job.Failed:
		e.because("its Job %s failed: %s %s; the next sweep makes it CRASHED", place, job.Reason, job.Message)
		return
	case job.Complete:
		e.because("its Job %s ended without a word of the run; the next sweep makes it CRASHED", place)
		return
	}
	pods, err := e.Kube.Pods(ctx, job.Namespace, []string{job.Name})
	if err != nil {
		e.because("its Job %s is active, and its pods cannot be read: %v", place, err)
		return
	}
	if len(pods) == 0 {
		if d, err := e.podless(ctx, job); err == nil && d != nil {
			e.because("its Job %s gets no pod: %s %s", place, d, d.Advice)
			return
		}
		e.because("its Job %s is made, and its pod is yet to be", place)
		return
	}
	pod := pods[len(pods)-1]
	var at time.Time
	if claim != nil && claim.Details.ScheduledTime != nil {
		at = *claim.Details.ScheduledTime
	}
	switch {
	case pod.Diagnosis != nil:
		e.because("its pod %s/%s does not start: %s %s", pod.Namespace, pod.Name, pod.Diagnosis, pod.Diagnosis.Advice)
	case at.After(e.Now()):
		e.because("it was claimed ahead: its pod %s/%s waits until it is due at %s", pod.Namespace, pod.Name, at.UTC().Format(time.RFC3339))
	default:
		e.because("its pod %s/%s is %s since %s, and its flow has not reported yet", pod.Namespace, pod.Name, pod.Phase, pod.Since.UTC().Format(time.RFC3339))
	}
}
