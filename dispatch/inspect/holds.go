package inspect

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/prefect"
)

var active = []string{"PENDING", "RUNNING"}

func (e *explainer) poolHolds(ctx context.Context) {
	pool, err := e.servers.Options.Prefect.WorkPool(ctx, e.run.WorkPoolName)
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
	queues, err := e.servers.Options.Prefect.WorkQueues(ctx, e.run.WorkPoolName)
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
	d, err := e.servers.Options.Prefect.Deployment(ctx, e.run.DeploymentID)
	switch {
	case prefect.IsNotFound(err):
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
	runs, err := e.servers.Options.Prefect.FlowRuns(ctx, by)
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

// heartbeats tells of heartbeats that have stopped.
func (e *explainer) heartbeats(ctx context.Context) {
	workers, err := e.servers.Options.Prefect.Workers(ctx, e.run.WorkPoolName)
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
		e.because("no worker has ever polled this work pool: start a trigger (deploy/overlays/cronjob), with %s in SLIPWAY_WORK_POOLS", e.run.WorkPoolName)
		return
	}
	e.because("no worker has polled this work pool lately: the last heartbeat, of %q, is %s old; check the CronJob", last.Name, e.session.ServerNow().Sub(last.LastHeartbeat).Round(time.Second))
}
