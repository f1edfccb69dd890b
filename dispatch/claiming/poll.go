package claiming

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/dispatch/report"
	"slipway/dispatch/submit"
	"slipway/dispatch/workpool"
	"slipway/prefect"
)

const (
	// maxPageAge is how old a page of the poll may be when a run of it is claimed,
	// from the arrival of the answer. A server accepts a claim on a run that finished
	// since (live observation on 3.8.8 and 2.20.25), so stale pages are discarded.
	maxPageAge = 5 * time.Second
	// maxStalePages is how many pages in a row may get stale before any run of them
	// is claimed. After that each run is read just before its claim.
	maxStalePages = 2
)

// page is one answer of the poll.
type page struct {
	runs     []prefect.FlowRun
	full     bool      // there may be more
	at       time.Time // when it came
	readEach bool      // each run is read by itself before it is claimed
}

// done is what became of a page.
type done struct {
	settled bool // the poll returns none of its runs again
	tried   int
	stale   []prefect.FlowRun // not tried
}

// serve processes what is due. It polls again while that brings runs that the
// pass has not tried. What is left then is held back, by a deployment's
// concurrency limit for one, and might hide others behind the poll's limit: so
// each queue is read on from there.
func (p *pass) serve(ctx context.Context) error {
	if p.report.Paused {
		return nil
	}
	for stalePages := 0; stalePages <= 2*maxStalePages; {
		page, err := p.poll(ctx, p.req.WorkQueues, nil)
		if err != nil {
			return err
		}
		runs := p.untried(page.runs)
		if len(runs) == 0 {
			return p.readBehind(ctx, page)
		}
		done, err := p.processPage(ctx, page, runs)
		if err != nil {
			return err
		}
		if stalePages++; done.tried > 0 || len(done.stale) == 0 {
			stalePages = 0
		}
		if stalePages == maxStalePages {
			page.readEach = true
			if done, err = p.processPage(ctx, page, p.untried(done.stale)); err != nil {
				return err
			}
		}
		whole := !page.full && len(runs) == len(page.runs) && len(done.stale) == 0
		if whole && done.settled || p.places.full() {
			return nil
		}
	}
	p.session.Warn("pages of the poll get stale before a run of them can be claimed: the servers answer too slowly; the next pass goes on")
	return nil
}

func (p *pass) poll(ctx context.Context, queues []string, after *time.Time) (page, error) {
	answer, err := p.session.Prefect.ScheduledFlowRuns(ctx, p.report.Pool, prefect.ScheduledRequest{
		WorkQueueNames:  queues,
		ScheduledBefore: p.session.ServerNow().Add(p.req.LookAhead),
		ScheduledAfter:  after,
	})
	if err != nil {
		return page{}, workpool.PrefectError(ctx, fmt.Sprintf("poll the due flow runs of work pool %q", p.report.Pool), err)
	}
	return page{runs: answer.Runs, full: answer.Full, at: answer.Answered}, nil
}

// untried picks the runs that this pass is asked for and has not tried, and marks
// all as tried.
func (p *pass) untried(runs []prefect.FlowRun) []prefect.FlowRun {
	var picked []prefect.FlowRun
	for _, run := range runs {
		if !p.tried[run.ID] && p.wanted(run.ID) {
			picked = append(picked, run)
		}
		p.tried[run.ID] = true
	}
	p.report.Found += len(picked)
	return picked
}

func (p *pass) wanted(id string) bool {
	same := func(one string) bool { return strings.EqualFold(one, id) }
	return len(p.req.FlowRunIDs) == 0 || slices.ContainsFunc(p.req.FlowRunIDs, same)
}

// processPage processes runs of a page, several at once, in order.
func (p *pass) processPage(ctx context.Context, page page, runs []prefect.FlowRun) (done, error) {
	if err := p.session.ReadOwners(ctx, runs); err != nil {
		return done{}, err
	}
	lines := make([]*report.Run, len(runs))
	order := turns(len(runs))
	var group errgroup.Group
	group.SetLimit(max(p.session.Options.Concurrency, 1))
	for i, run := range runs {
		group.Go(func() error {
			if p.fresh(ctx, page) {
				lines[i] = p.process(ctx, run, page, order[i])
			}
			order[i].pass()
			return nil
		})
	}
	_ = group.Wait() // the runs' goroutines return nil; what ends the pass is in p.ended

	all := done{settled: true}
	for i, line := range lines {
		if line == nil {
			delete(p.tried, runs[i].ID)
			p.report.Found--
			all.settled = false
			all.stale = append(all.stale, runs[i])
			continue
		}
		p.report.Add(*line)
		all.tried++
		all.settled = all.settled && line.Settled()
	}
	if ctx.Err() != nil {
		return all, workpool.Interrupt(ctx)
	}
	return all, p.failure()
}

// fresh tells whether runs of a page may be claimed: it is not too old, unless each
// run is read by itself, and the pass goes on.
func (p *pass) fresh(ctx context.Context, page page) bool {
	return !p.over(ctx) && (page.readEach || p.session.Options.Now().Sub(page.at) < maxPageAge)
}

// sameAttempt tells whether a run is what it was; that it is called Late by now does not
// matter.
func sameAttempt(now, before *prefect.FlowRun) bool {
	return now.StateID == before.StateID || isFirst(now) && isFirst(before) && due(now).Equal(due(before))
}

// readAgain reads one run just before its claim.
func (p *pass) readAgain(ctx context.Context, ready *prepared) *submit.Result {
	now, err := p.session.Prefect.FlowRun(ctx, ready.run.ID)
	switch {
	case prefect.IsNotFound(err):
		return result(report.Skipped, "the run was deleted")
	case err != nil:
		return result(report.Failed, "read the run before its claim: %s", p.session.Text(err))
	case now.StateType != "SCHEDULED" || now.WaitsForEngine():
		return result(report.Skipped, "the run has moved on to %s meanwhile", now.StateType)
	case !sameAttempt(now, &ready.run):
		// What was found for the state before may not hold for this one.
		return result(report.Skipped, "the run has changed to %s meanwhile; the next pass looks at it", now.StateName)
	}
	return nil
}
