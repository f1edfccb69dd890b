// Package claiming takes what is due to its Jobs:
//
//	poll ─▶ prepare ─▶ admit ─▶ claim ─▶ submit ─▶ report
//
// Runs are prepared side by side, without any effect. They are admitted to the claim
// in the order of the poll, whatever the concurrency.
package claiming

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/dispatch/submit"
	"slipway/dispatch/workpool"
	"slipway/prefect"
	"slipway/render"
)

// MaxLookAhead bounds Request.LookAhead: an early claim holds a concurrency lease
// of its deployment, which ends 300 s after the claim (Prefect 3.8.8's default).
const MaxLookAhead = 240 * time.Second

// Request says what one pass looks at. A pass makes its own poll: nothing here
// is a licence to claim a run that the poll does not return.
type Request struct {
	WorkPools  []string      // names; at least one
	WorkQueues []string      // names; none means every queue of the pool
	FlowRunIDs []string      // only these runs, if the poll returns them; none means every run
	LookAhead  time.Duration // claim runs due within this time; 0 means due now
	Sweep      bool          // repair afterwards what others left behind
	Limit      int           // the most runs submitted per pool; 0 means no limit
}

// pass is the claiming of one work pool.
type pass struct {
	session *workpool.Session
	req     Request
	report  *report.Pass
	tried   map[string]bool // flow run ids; only between the runs' goroutines
	places  *places         // under Request.Limit

	mu       sync.Mutex               // guards what the runs' goroutines share:
	previous map[string]chan struct{} //   the claim before, of deployments with a limit
	closed   map[string]string        //   deployments that have had their turn, and why
	failures map[string]int           //   claims in a row that the server failed on, by deployment
	ended    error                    //   no run is claimed after this
}

// Run claims and submits what is due, and adds a line for each run to the report.
// Errors are *workpool.Error. Cancelling the context ends the claiming; runs
// claimed by then are finished first.
func Run(ctx context.Context, s *workpool.Session, req Request, r *report.Pass) error {
	p := &pass{
		session: s, req: req, report: r, tried: map[string]bool{}, places: newPlaces(req.Limit),
		previous: map[string]chan struct{}{}, closed: map[string]string{}, failures: map[string]int{},
	}
	if err := p.serve(ctx); err != nil {
		return err
	}
	p.missed()
	return nil
}

// missed accounts for runs that were asked for by id and not returned by the poll.
func (p *pass) missed() {
	for _, id := range p.req.FlowRunIDs {
		if !p.tried[strings.ToLower(id)] {
			p.report.Add(report.Run{ID: id, Outcome: report.Skipped, Reason: fmt.Sprintf(
				"the poll did not return it: it is not SCHEDULED in this work pool within %s, or a pause or a concurrency limit holds it back", p.req.LookAhead)})
		}
	}
}

// prepared is a flow run with its Job, before any effect.
type prepared struct {
	run   prefect.FlowRun
	claim submit.Claim
	job   *render.Job
	place claim.Place
	fault error // the user's: there is no Job
	// limited: its deployment has a concurrency limit, so that it is claimed after
	// the one before it has its answer.
	limited bool
	warned  []string
}

// process takes one run as far as it goes. nil: it is left untried, because the
// page is too old or the pass has ended.
func (p *pass) process(ctx context.Context, run prefect.FlowRun, page page, turn *turn) *report.Run {
	defer turn.pass()
	started := p.session.Options.Now()
	ready := &prepared{run: run}
	result := p.prepare(ctx, ready)
	turn.wait(ctx)
	if result == nil && p.fresh(ctx, page) {
		result = p.proceed(ctx, ready, page, turn)
	}
	if result == nil {
		return nil
	}
	return p.line(ctx, ready, *result, p.session.Options.Now().Sub(started))
}

// proceed admits, claims and submits; nil: the run is left untried.
func (p *pass) proceed(ctx context.Context, ready *prepared, page page, turn *turn) *submit.Result {
	if refused := p.admit(ctx, ready); refused != nil {
		return refused
	}
	before, answered := p.queueUp(ready)
	defer answered()
	turn.pass()
	await(ctx, before)
	var result *submit.Result
	closed := p.closedReason(ready)
	switch {
	case closed != "":
		result = skipped(closed)
	case p.fresh(ctx, page):
		if page.readEach {
			result = p.readAgain(ctx, ready)
		}
		if result == nil {
			owned := p.own(ctx, ready, answered)
			result = &owned
		}
	}
	p.places.leave(result != nil && result.Outcome == report.Submitted)
	if result != nil {
		p.note(*result)
	}
	return result
}

// admit is passed in the order of the poll.
func (p *pass) admit(ctx context.Context, ready *prepared) *submit.Result {
	if blocked := p.blocked(ready); blocked != nil {
		return blocked
	}
	if !p.places.take(ctx) {
		return result(report.Skipped, "the limit of %d runs for this pass is reached", p.req.Limit)
	}
	return nil
}

// blocked: the namespace takes no Job now.
func (p *pass) blocked(ready *prepared) *submit.Result {
	if ready.job == nil {
		return nil
	}
	if reason := p.session.BlockedReason(ready.place.Namespace); reason != "" {
		return skipped(reason)
	}
	return nil
}

// note keeps what a result means for the runs that follow.
func (p *pass) note(r submit.Result) {
	if r.Blocked == nil {
		return
	}
	p.session.BlockNamespace(r.Blocked.Namespace, r.Blocked.Reason)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil {
		p.ended = r.Blocked.Ends
	}
}

// over tells whether no run may be claimed any more.
func (p *pass) over(ctx context.Context) bool { return ctx.Err() != nil || p.failure() != nil }

func (p *pass) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// line is the run's line of the report, and of the log.
func (p *pass) line(ctx context.Context, ready *prepared, r submit.Result, took time.Duration) *report.Run {
	redactor := p.session.Options.Redactor
	line := &report.Run{
		ID: ready.run.ID, Name: ready.run.Name, Outcome: r.Outcome, Reason: redactor.Text(r.Reason), Milliseconds: took.Milliseconds(),
		Warnings: redactor.Texts(append(ready.warned, r.Warnings...)),
	}
	if ready.job != nil && r.Outcome != report.Skipped {
		line.Namespace, line.Job = ready.place.Namespace, ready.place.Name
	}
	p.session.Options.Log.LogAttrs(ctx, slog.LevelInfo, "flow run",
		slog.String("work_pool", p.report.Pool), slog.String("flow_run_id", line.ID), slog.String("outcome", string(line.Outcome)),
		slog.String("namespace", line.Namespace), slog.String("job", line.Job),
		slog.Int64("milliseconds", line.Milliseconds), slog.String("reason", line.Reason))
	return line
}

func result(outcome report.Outcome, format string, args ...any) *submit.Result {
	r := submit.Resultf(outcome, format, args...)
	return &r
}

func skipped(reason string) *submit.Result { return result(report.Skipped, "%s", reason) }
