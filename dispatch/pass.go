package dispatch

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"slipway/prefect"
	"slipway/render"
)

// pageFresh is how old a page of the poll may be when a run of it is claimed.
// A server accepts a claim on a run that finished since (live observation on
// 3.8.8 and 2.20.25), so a page is not worked off at leisure.
const pageFresh = 5 * time.Second

// pass is one look at one work pool.
type pass struct {
	*Dispatcher
	req     Request
	started time.Time
	report  Report

	server   string         // the server's version
	as       render.Version // the worker to imitate
	cluster  string
	template *render.Template
	fault    error // the base job template's own

	documents   documents
	deployments map[string]*prefect.Deployment // nil: gone
	flows       map[string]*prefect.Flow
	tried       map[string]bool // flow run ids; only between the runs' goroutines

	mu     sync.Mutex        // guards what the runs' goroutines share:
	logs   []prefect.Log     //   for the flow runs' pages in the UI
	shut   map[string]string //   namespaces (or "": all) that take no Job now, and why
	hidden []string          //   secrets of blocks, for no message
	taken  int               //   runs counted against Request.Limit
	failed error             //   ends the pass
}

func (d *Dispatcher) newPass(pool string, req Request) *pass {
	return &pass{
		Dispatcher:  d,
		req:         req,
		started:     d.Now(),
		report:      Report{Pool: pool, Runs: []RunReport{}},
		deployments: map[string]*prefect.Deployment{},
		flows:       map[string]*prefect.Flow{},
		tried:       map[string]bool{},
		shut:        map[string]string{},
	}
}

// Now is the Prefect server's time, which stamps due times and claims: clocks that
// differ by minutes change nothing.
func (p *pass) Now() time.Time { return p.Dispatcher.Now().Add(p.Prefect.Skew()) }

func (p *pass) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{p.meetServer, p.meetCluster, p.readPool, p.beat, p.serve} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	p.missed()
	return nil
}

// close sends what was gathered and completes the report.
func (p *pass) close(ctx context.Context) Report {
	p.sendLogs(ctx)
	p.report.Milliseconds = p.Now().Sub(p.started).Milliseconds()
	return p.report
}

func (p *pass) meetServer(ctx context.Context) error {
	version, err := p.Prefect.ServerVersion(ctx)
	if err != nil {
		return prefectError(ctx, "read the Prefect server's version", err)
	}
	p.server = version
	switch {
	case p.RenderAs != "":
		p.as = p.RenderAs
	case strings.HasPrefix(version, "2."):
		p.as = render.V2
	default:
		p.as = render.V3
	}
	return nil
}

func (p *pass) meetCluster(ctx context.Context) (err error) {
	p.cluster, err = p.clusterID(ctx)
	return err
}

func (p *pass) readPool(ctx context.Context) error {
	name := p.report.Pool
	pool, err := p.Prefect.WorkPool(ctx, name)
	if isNotFound(err) {
		return &Error{Kind: Invalid, Message: fmt.Sprintf("work pool %q does not exist (SLIPWAY_WORK_POOLS): create it with `prefect work-pool create %s --type kubernetes`", name, name), Err: err}
	}
	if err != nil {
		return prefectError(ctx, fmt.Sprintf("read work pool %q", name), err)
	}
	if pool.Type != "kubernetes" {
		return &Error{Kind: Invalid, Message: fmt.Sprintf("work pool %q is of type %q: Slipway serves pools of type kubernetes", name, pool.Type)}
	}
	p.report.Paused = pool.IsPaused
	// A base job template that cannot be read crashes each due run, where its
	// owner will look for the reason, as the Python worker does.
	p.template, p.fault = render.Parse(pool.Raw, render.Options{
		As:             p.as,
		PrefectVersion: p.server,
		PythonVersion:  "3.11",
		WorkerName:     p.WorkerName,
		Environ:        p.Environ,
		Namespace:      p.Namespace,
	})
	return nil
}

// beat keeps the work pool READY. Without it the pass does its work all the same.
func (p *pass) beat(ctx context.Context) error {
	err := p.Prefect.Heartbeat(ctx, p.report.Pool, p.WorkerName, p.Heartbeat)
	if err != nil {
		p.report.Warnings = append(p.report.Warnings, "the heartbeat was not taken: "+p.plain(err))
	}
	return nil
}

// missed accounts for runs that were asked for by id and not returned by the poll.
func (p *pass) missed() {
	for _, id := range p.req.FlowRunIDs {
		if !p.tried[strings.ToLower(id)] {
			p.report.add(RunReport{ID: id, Outcome: Skipped, Reason: fmt.Sprintf(
				"the poll did not return it: it is not SCHEDULED in this work pool within %s, or a pause or a concurrency limit holds it back", p.req.LookAhead)})
		}
	}
}

// fail ends the pass: no run is claimed after this.
func (p *pass) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		p.failed = err
	}
}

func (p *pass) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// shutNamespace keeps later runs of the pass from being claimed for a namespace
// that takes no Job now; "" stands for the whole API server.
func (p *pass) shutNamespace(namespace, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut[namespace] = why
}

func (p *pass) whyShut(namespace string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if why := p.shut[""]; why != "" {
		return why
	}
	return p.shut[namespace]
}

// take counts a run against the limit before it is claimed.
func (p *pass) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.req.Limit > 0 && p.taken >= p.req.Limit {
		return false
	}
	p.taken++
	return true
}

func (p *pass) giveUpPlace() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
}

func (p *pass) full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.req.Limit > 0 && p.taken >= p.req.Limit
}
