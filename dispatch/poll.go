package dispatch

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/prefect"
)

// MaxLookAhead bounds Request.LookAhead: an early claim holds a concurrency lease
// of its deployment, which ends 300 s after the claim (Prefect 3.8.8's default).
const MaxLookAhead = 240 * time.Second

// pageSize is the most that get_scheduled_flow_runs returns at once.
const pageSize = 200

// page is one answer of the poll.
type page struct {
	runs []prefect.FlowRun
	at   time.Time // just before the request was sent
}

// serve works off what is due. It polls again while that brings runs that the
// pass has not tried. What is left then is held back, by a deployment's
// concurrency limit for one, and might hide others behind the poll's limit: so
// each queue is read on from there.
func (p *pass) serve(ctx context.Context) error {
	if p.report.Paused {
		return nil
	}
	for {
		page, err := p.poll(ctx, p.req.WorkQueues, nil)
		if err != nil {
			return err
		}
		fresh := p.fresh(page)
		if len(fresh) == 0 {
			return p.lookBehind(ctx, page)
		}
		settled, err := p.work(ctx, page, fresh)
		if err != nil {
			return err
		}
		whole := len(page.runs) < pageSize && len(fresh) == len(page.runs)
		if whole && settled || p.full() {
			return nil
		}
	}
}

// lookBehind reads past the runs of a page that were all tried before.
func (p *pass) lookBehind(ctx context.Context, blocked page) error {
	if len(blocked.runs) == 0 {
		return nil
	}
	queues := p.req.WorkQueues
	if len(queues) == 0 {
		all, err := p.Prefect.WorkQueues(ctx, p.report.Pool)
		if err != nil {
			return prefectError(ctx, "list the work queues", err)
		}
		for _, q := range all {
			if !q.IsPaused {
				queues = append(queues, q.Name)
			}
		}
	}
	for _, queue := range queues {
		if err := p.readOn(ctx, queue); err != nil {
			return err
		}
	}
	return nil
}

// readOn moves the lower bound of the poll through one queue, whose order is by
// due time. The bound is inclusive: when a page ends where it began, one
// microsecond, the server's resolution, leads past it.
func (p *pass) readOn(ctx context.Context, queue string) error {
	var after *time.Time
	for !p.full() {
		page, err := p.poll(ctx, []string{queue}, after)
		if err != nil || len(page.runs) == 0 {
			return err
		}
		if fresh := p.fresh(page); len(fresh) > 0 {
			if _, err := p.work(ctx, page, fresh); err != nil {
				return err
			}
			continue
		}
		last := due(page.runs[len(page.runs)-1])
		if after != nil && !last.After(*after) {
			last = after.Add(time.Microsecond)
		}
		after = &last
	}
	return nil
}

func (p *pass) poll(ctx context.Context, queues []string, after *time.Time) (page, error) {
	now := p.Now()
	runs, err := p.Prefect.ScheduledFlowRuns(ctx, p.report.Pool, prefect.ScheduledRequest{
		WorkQueueNames:  queues,
		ScheduledBefore: now.Add(p.req.LookAhead),
		ScheduledAfter:  after,
		Limit:           pageSize,
	})
	if err != nil {
		return page{}, prefectError(ctx, "poll the due flow runs of work pool \""+p.report.Pool+"\"", err)
	}
	return page{runs: runs, at: now}, nil
}

// fresh picks the runs that this pass is asked for and has not tried, and marks
// the page as tried.
func (p *pass) fresh(page page) []prefect.FlowRun {
	var fresh []prefect.FlowRun
	for _, run := range page.runs {
		if !p.tried[run.ID] && p.wanted(run.ID) {
			fresh = append(fresh, run)
		}
		p.tried[run.ID] = true
	}
	p.report.Found += len(fresh)
	return fresh
}

func (p *pass) wanted(id string) bool {
	for _, one := range p.req.FlowRunIDs {
		if strings.EqualFold(one, id) {
			return true
		}
	}
	return len(p.req.FlowRunIDs) == 0
}

// work dispatches runs of a page, several at once, and reports whether the poll
// will return none of them again. Runs that the page has grown too old for are
// left untried.
func (p *pass) work(ctx context.Context, page page, runs []prefect.FlowRun) (settled bool, err error) {
	if err := p.readOwners(ctx, runs); err != nil {
		return false, err
	}
	lines := make([]*RunReport, len(runs))
	var group errgroup.Group
	group.SetLimit(max(p.Concurrency, 1))
	for i, run := range runs {
		group.Go(func() error {
			if ctx.Err() == nil && p.failure() == nil && p.Now().Sub(page.at) < pageFresh {
				lines[i] = p.fly(ctx, run)
			}
			return nil
		})
	}
	_ = group.Wait() // the runs' goroutines return nil; what ends the pass is in p.failed

	settled = true
	for i, line := range lines {
		if line == nil {
			delete(p.tried, runs[i].ID)
			p.report.Found--
			settled = false
			continue
		}
		p.report.add(*line)
		settled = settled && line.settled()
	}
	if ctx.Err() != nil {
		return false, interrupted(ctx)
	}
	return settled, p.failure()
}

// settled reports whether the run has left the state SCHEDULED.
func (r *RunReport) settled() bool {
	return r.Outcome == Submitted || r.Outcome == Duplicate || r.Outcome == Refused
}

func due(run prefect.FlowRun) time.Time {
	if run.NextScheduledStartTime == nil {
		return time.Time{}
	}
	return *run.NextScheduledStartTime
}
