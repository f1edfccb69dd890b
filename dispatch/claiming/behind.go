package claiming

import (
	"context"
	"slices"
	"time"

	"slipway/dispatch/workpool"
	"slipway/prefect"
)

// readBehind reads past the runs of a page that were all tried before.
func (p *pass) readBehind(ctx context.Context, blocked page) error {
	if len(blocked.runs) == 0 {
		return nil
	}
	queues, err := p.queues(ctx)
	if err != nil {
		return err
	}
	// A limit of the pool or of a queue makes a page shorter than it could be.
	hasLimit := func(q prefect.WorkQueue) bool { return q.ConcurrencyLimit != nil }
	if !blocked.full && p.session.Pool.ConcurrencyLimit == nil && !slices.ContainsFunc(queues, hasLimit) {
		return nil
	}
	for _, queue := range queues {
		if err := p.readQueue(ctx, queue); err != nil {
			return err
		}
	}
	return nil
}

// queues are those that the pass serves.
func (p *pass) queues(ctx context.Context) ([]prefect.WorkQueue, error) {
	all, err := p.session.Prefect.WorkQueues(ctx, p.report.Pool)
	if err != nil {
		return nil, workpool.PrefectError(ctx, "list the work queues", err)
	}
	served := map[string]bool{}
	for _, name := range p.req.WorkQueues {
		served[name] = true
	}
	var queues []prefect.WorkQueue
	for _, q := range all {
		if !q.IsPaused && (len(served) == 0 || served[q.Name]) {
			queues = append(queues, q)
		}
	}
	return queues, nil
}

// readQueue moves the lower bound of the poll through one queue, whose order is by
// due time. The bound is inclusive. When a full page ends where it began, all its
// runs are due at one instant, and there may be more of that instant, which no poll
// returns: they are found by a filter. Then one microsecond, the server's
// resolution, leads past the instant.
func (p *pass) readQueue(ctx context.Context, queue prefect.WorkQueue) error {
	var after *time.Time
	for !p.places.full() {
		page, err := p.poll(ctx, []string{queue.Name}, after)
		if err != nil || len(page.runs) == 0 {
			return err
		}
		if runs := p.untried(page.runs); len(runs) > 0 {
			if _, err := p.processPage(ctx, page, runs); err != nil {
				return err
			}
			continue
		}
		last := due(&page.runs[len(page.runs)-1])
		if after == nil || last.After(*after) {
			after = &last
			continue
		}
		more, err := p.sameInstant(ctx, queue, page, last)
		if err != nil {
			return err
		}
		if !more {
			last = last.Add(time.Microsecond)
			after = &last
		}
	}
	return nil
}

// sameInstant processes runs that are due when all of a full page of the poll are, and
// that the poll does not return for their number. The poll enforces pauses and limits,
// by the number of runs that it returns; none of those was claimed, so that as many of
// the others, which are of the same queue and due at the same time, may be. more: there
// may be others still, for which the poll is to be asked again.
func (p *pass) sameInstant(ctx context.Context, queue prefect.WorkQueue, polled page, at time.Time) (more bool, err error) {
	runs, err := p.session.Prefect.FlowRuns(ctx, prefect.RunFilter{WorkPool: p.report.Pool, WorkQueue: queue.ID, StateTypes: []string{"SCHEDULED"}, DueFrom: &at, DueUntil: &at})
	if err != nil {
		return false, workpool.PrefectError(ctx, "read the flow runs that are due at one time", err)
	}
	var hidden []prefect.FlowRun
	for _, run := range runs {
		if !p.tried[run.ID] && p.wanted(run.ID) && !run.WaitsForEngine() {
			hidden = append(hidden, run)
		}
	}
	allowed := p.untried(hidden[:min(len(hidden), len(polled.runs))])
	if len(allowed) == 0 {
		return false, nil
	}
	result, err := p.processPage(ctx, page{runs: allowed, at: p.session.Options.Now(), readEach: true}, allowed)
	return result.tried > 0 && len(hidden) > len(allowed), err
}
