package claiming

import (
	"context"
	"sync"
)

// turn keeps the order of the poll: a run waits until all before it have passed.
type turn struct {
	before <-chan struct{}
	passed chan struct{}
	once   sync.Once
}

// turns makes one for each of n runs.
func turns(n int) []*turn {
	all := make([]*turn, n)
	first := make(chan struct{})
	close(first)
	before := (<-chan struct{})(first)
	for i := range all {
		all[i] = &turn{before: before, passed: make(chan struct{})}
		before = all[i].passed
	}
	return all
}

// wait returns when the run's turn has come, or the context is over.
func (t *turn) wait(ctx context.Context) {
	select {
	case <-t.before:
	case <-ctx.Done():
	}
}

// pass lets the next run have its turn. It may be called again.
func (t *turn) pass() { t.once.Do(func() { close(t.passed) }) }

// places are those under a limit of runs to submit. One that a run did not need goes
// to the next in order.
type places struct {
	limit int // 0: none

	mu        sync.Mutex
	submitted int
	inFlight  int
	changed   chan struct{} // closed when a run leaves
}

func newPlaces(limit int) *places { return &places{limit: limit, changed: make(chan struct{})} }

// take waits for a place. false: all are used up, or the context is over.
func (p *places) take(ctx context.Context) bool {
	for {
		p.mu.Lock()
		free := p.limit == 0 || p.submitted+p.inFlight < p.limit
		if free {
			p.inFlight++
		}
		never, changed := p.inFlight == 0, p.changed
		p.mu.Unlock()
		switch {
		case free:
			return true
		case never:
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// leave ends the use of a place.
func (p *places) leave(submitted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	if submitted {
		p.submitted++
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// full tells whether no run can be submitted any more.
func (p *places) full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit > 0 && p.submitted >= p.limit
}

// await returns when a claim has its answer, or the context is over. nil: there is
// nothing to wait for.
func await(ctx context.Context, before <-chan struct{}) {
	if before == nil {
		return
	}
	select {
	case <-before:
	case <-ctx.Done():
	}
}

// queueUp registers a run of a deployment with a concurrency limit. before is closed
// when the one before it has its answer; nil: there is none. answered is to be called
// when this one has its own.
func (p *pass) queueUp(ready *prepared) (before <-chan struct{}, answered func()) {
	if !ready.limited {
		return nil, func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before = p.previous[ready.run.DeploymentID]
	own := make(chan struct{})
	p.previous[ready.run.DeploymentID] = own
	return before, sync.OnceFunc(func() { close(own) })
}
