// Package dispatch is the core of Slipway: one pass over a work pool that
// claims what is due, renders each Job, submits it, reports, and ends.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"slipway/internal/clock"
	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// Options of a Dispatcher.
type Options struct {
	Prefect *prefect.Client
	Kube    *kube.Client
	Log     *slog.Logger

	WorkerName  string         // shown in the UI and in the Job's labels and environment
	Heartbeat   time.Duration  // whole seconds, at least the trigger's period: keeps the work pool READY
	Concurrency int            // runs in flight at once
	Deadline    time.Duration  // from the claim to the last attempt to create its Job
	Cluster     string         // names the cluster in claims; "": the UID of the namespace kube-system
	RenderAs    render.Version // "": follows the server's version

	OrphanGrace        time.Duration // how old a claim without a Job must be before a sweep makes the Job; the same everywhere
	ForeignOrphanGrace time.Duration // and before it gives a foreign one back; 0: never
	SettleGrace        time.Duration // for an engine to report after its Job ended, and for leftovers
	Namespaces         []string      // where Jobs are; none: everywhere, or where the work pool says

	Adopt bool // look after the runs and Jobs of Python workers, which are gone

	StartLimits   map[string]time.Duration // how long pods may be kept from starting, by diagnosis
	PodEvents     bool                     // emit the events of pods that do not start or crash
	CrashLogs     bool                     // copy the end of a crashed pod's log into its run's
	CrashLogLines int                      // so many lines of it

	Namespace string            // for Jobs, where neither template nor job variables name one
	Environ   map[string]string // of the process, for the renderer
	Secrets   []string          // values that no message may hold

	Now   func() time.Time                                 // nil: time.Now
	Sleep func(ctx context.Context, d time.Duration) error // between attempts; nil: really
}

// Dispatcher makes passes. It is safe for concurrent use and keeps nothing
// between passes but the cluster's id: Prefect's server and the Kubernetes API
// server are the only state.
type Dispatcher struct {
	Options

	mu      sync.Mutex
	cluster string
}

// New checks nothing and sends nothing.
func New(o Options) *Dispatcher {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = clock.Sleep
	}
	return &Dispatcher{Options: o, cluster: o.Cluster}
}

// Dispatch makes one pass over each work pool of the request, one after the
// other, and returns a report for each that was begun, even beside an error.
// Errors are *Error; the first pool's error does not keep the others from
// being served, and all are joined. Cancelling the context ends the claiming;
// runs claimed by then are finished first.
func (d *Dispatcher) Dispatch(ctx context.Context, req Request) ([]Report, error) {
	var reports []Report
	var errs []error
	for _, name := range req.WorkPools {
		if ctx.Err() != nil {
			errs = append(errs, interrupted(ctx))
			break
		}
		p := d.newPass(name, req)
		err := p.run(ctx)
		if err != nil {
			p.report.Error = err.Error()
			errs = append(errs, err)
		}
		if err == nil && req.Sweep && ctx.Err() == nil {
			s := newSweep(p, false)
			if err := s.look(ctx); err != nil {
				s.report.Error = p.plain(err)
				errs = append(errs, err)
			}
			p.report.Sweep = &s.report
		}
		reports = append(reports, p.close(ctx))
	}
	return reports, errors.Join(errs...)
}

// Ready asks both servers for a cheap answer; nil means a pass would find them.
func (d *Dispatcher) Ready(ctx context.Context) error {
	if _, err := d.Prefect.ServerVersion(ctx); err != nil {
		return fmt.Errorf("the Prefect server: %w", err)
	}
	if err := d.Kube.Ping(ctx); err != nil {
		return fmt.Errorf("the Kubernetes API server: %w", err)
	}
	return nil
}

// clusterID names the cluster in claims and in the pids of Prefect 2.
func (d *Dispatcher) clusterID(ctx context.Context) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cluster != "" {
		return d.cluster, nil
	}
	uid, err := d.Kube.ClusterUID(ctx)
	if err != nil {
		return "", clusterError(ctx, err)
	}
	d.cluster = uid
	return uid, nil
}
