// Package dispatch is the core of Slipway: one pass over a work pool claims what is
// due, renders each Job, submits it, repairs what others left behind, and ends. This
// face composes the stages; each is a package below:
//
//	claiming   poll ─▶ prepare ─▶ admit ─▶ claim ─┐
//	sweep      list ─▶ look ─▶ Decide ─▶ apply ───┤
//	                                              ▼
//	submit     Secrets ─▶ Job ─▶ infrastructure_pid
//	inspect    render, shadow, doctor, explain: read-only
//	workpool   the session of one work pool; report: what is told; claim: ids and names
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"slipway/dispatch/claiming"
	"slipway/dispatch/inspect"
	"slipway/dispatch/report"
	"slipway/dispatch/sweep"
	"slipway/dispatch/workpool"
	"slipway/prefect"
)

// Dispatcher makes passes. It is safe for concurrent use and keeps nothing
// between passes but the cluster's id: Prefect's server and the Kubernetes API
// server are the only state.
type Dispatcher struct{ servers *workpool.Servers }

// New checks nothing and sends nothing.
func New(o Options) *Dispatcher { return &Dispatcher{workpool.New(o)} }

// Dispatch makes one pass over each work pool of the request, side by side, and
// returns a report for each in the order of the request, even beside an error.
// Errors are *Error, joined; one pool's error does not keep the others from
// being served. Cancelling the context ends the claiming; runs claimed by then are
// finished first.
func (d *Dispatcher) Dispatch(ctx context.Context, req Request) ([]Report, error) {
	reports := make([]Report, len(req.WorkPools))
	return reports, d.eachPool(req.WorkPools, func(i int, session *workpool.Session) error {
		return d.pass(ctx, session, req, &reports[i])
	})
}

// eachPool makes a session for each work pool, and uses them side by side.
func (d *Dispatcher) eachPool(pools []string, use func(i int, session *workpool.Session) error) error {
	errs := make([]error, len(pools))
	var all sync.WaitGroup
	for i, name := range pools {
		all.Go(func() { errs[i] = use(i, d.servers.Unopened(name)) })
	}
	all.Wait()
	return d.servers.Options.Redactor.Error(errors.Join(errs...))
}

// claimingShare is the part of a pass's time in which runs are claimed: repair gets its
// share however much is due.
const claimingShare = 0.6

// pass is one pass over one work pool: it claims, and then repairs.
func (d *Dispatcher) pass(ctx context.Context, session *workpool.Session, req Request, r *Report) error {
	r.Pool, r.Runs = session.Pool.Name, []report.Run{}
	budget := d.servers.Options.PassTime
	ctx, cancel := context.WithTimeoutCause(ctx, budget, workpool.ErrOutOfTime)
	defer cancel()
	err := d.meet(ctx, session)
	if err == nil {
		r.Paused = session.Pool.IsPaused
		d.heartbeat(ctx, session)
		claims, done := context.WithTimeoutCause(ctx, time.Duration(float64(budget)*claimingShare), workpool.ErrOutOfTime)
		err = claiming.Run(claims, session, req, r)
		done()
	}
	if req.Sweep && session.Cluster != "" && ctx.Err() == nil && KindOf(err) != Denied {
		r.Sweep = &report.Sweep{Pool: r.Pool, Rows: []report.Row{}}
		if failed := sweep.Run(ctx, session, false, r.Sweep); failed != nil {
			r.Sweep.Error = session.Text(failed)
			err = errors.Join(err, failed)
		}
	}
	r.Warnings, r.Error = finish(ctx, session, err)
	r.Milliseconds = session.Took().Milliseconds()
	return err
}

// finish sends the log lines that are left, and returns what a report ends with: the
// warnings, and why it ended early.
func finish(ctx context.Context, session *workpool.Session, err error) (warnings []string, ended string) {
	session.Flush(ctx)
	if err != nil {
		ended = session.Text(err)
	}
	return session.TakeWarnings(), ended
}

// meet reads what every look at a work pool needs.
func (d *Dispatcher) meet(ctx context.Context, session *workpool.Session) error {
	if err := session.Open(ctx); err != nil {
		return err
	}
	return session.NameCluster(ctx)
}

// heartbeat keeps the work pool READY. Without it the pass does its work all the same.
func (d *Dispatcher) heartbeat(ctx context.Context, session *workpool.Session) {
	o := d.servers.Options
	if err := o.Prefect.Heartbeat(ctx, session.Pool.Name, o.WorkerName, o.Heartbeat); err != nil {
		session.Warn("the heartbeat was not taken: %v", err)
	}
}

// Sweep repairs what dispatchers, workers and pods left behind, without any state of
// its own. Running it twice, or beside another, repairs nothing twice. Errors are
// *Error, joined.
func (d *Dispatcher) Sweep(ctx context.Context, req SweepRequest) ([]SweepReport, error) {
	reports := make([]SweepReport, len(req.WorkPools))
	return reports, d.eachPool(req.WorkPools, func(i int, session *workpool.Session) error {
		r := &reports[i]
		r.Pool, r.Rows = session.Pool.Name, []report.Row{}
		ctx, cancel := context.WithTimeoutCause(ctx, d.servers.Options.PassTime, workpool.ErrOutOfTime)
		defer cancel()
		err := d.meet(ctx, session)
		if err == nil {
			err = sweep.Run(ctx, session, req.DryRun, r)
		}
		r.Warnings, r.Error = finish(ctx, session, err)
		return err
	})
}

// Shadow claims nothing and submits nothing: it compares what Slipway would submit
// with the Jobs that a Python worker has made.
func (d *Dispatcher) Shadow(ctx context.Context, req Request) ([]ShadowReport, error) {
	var reports []ShadowReport
	var errs []error
	for _, name := range req.WorkPools {
		r, err := inspect.Shadow(ctx, d.servers, name, req.WorkQueues, req.LookAhead)
		if err != nil {
			r.Error = d.servers.Options.Redactor.Text(err.Error())
			errs = append(errs, err)
		}
		reports = append(reports, *r)
	}
	return reports, d.servers.Options.Redactor.Error(errors.Join(errs...))
}

// Explain says why a flow run has not started. Errors are *Error.
func (d *Dispatcher) Explain(ctx context.Context, flowRunID string) (*Explanation, error) {
	x, err := inspect.Explain(ctx, d.servers, flowRunID)
	return x, d.servers.Options.Redactor.Error(err)
}

// Doctor checks what a pass over work pools needs.
func (d *Dispatcher) Doctor(ctx context.Context, pools []string) []Check {
	return inspect.Doctor(ctx, d.servers, pools)
}

// Inspect renders a Job without any effect on either server. Errors are *Error, or
// *render.Fault where the template or the variables make no Job.
func (d *Dispatcher) Inspect(ctx context.Context, s Subject) (*Inspection, error) {
	i, err := inspect.Inspect(ctx, d.servers, s)
	return i, d.servers.Options.Redactor.Error(err)
}

// Try asks the API server for its verdict on a Job, by a dry run. Errors are *Error.
func (d *Dispatcher) Try(ctx context.Context, i *Inspection) (*Verdict, error) {
	v, err := inspect.Try(ctx, d.servers, i)
	return v, d.servers.Options.Redactor.Error(err)
}

// LiveJob is the Job in the cluster that a flow run's infrastructure_pid names, as
// JSON. Errors are *Error.
func (d *Dispatcher) LiveJob(ctx context.Context, run *prefect.FlowRun) ([]byte, error) {
	job, err := inspect.LiveJob(ctx, d.servers, run)
	return job, d.servers.Options.Redactor.Error(err)
}

// JobOf is the manifest of a flow run's Job, as JSON and without secrets. Errors
// are *Error, also where no Job can be made.
func (d *Dispatcher) JobOf(ctx context.Context, flowRunID string) ([]byte, error) {
	job, err := inspect.JobOf(ctx, d.servers, flowRunID)
	return job, d.servers.Options.Redactor.Error(err)
}

// Ready asks both servers for a cheap answer; nil means a pass would find them.
func (d *Dispatcher) Ready(ctx context.Context) error {
	if _, err := d.servers.Options.Prefect.ServerVersion(ctx); err != nil {
		return d.servers.Options.Redactor.Error(fmt.Errorf("the Prefect server: %w", err))
	}
	if err := d.servers.Options.Kube.Ping(ctx); err != nil {
		return d.servers.Options.Redactor.Error(fmt.Errorf("the Kubernetes API server: %w", err))
	}
	return nil
}
