package handler

import (
	"context"
	"sync"
	"time"

	"slipway/internal/clock"
)

// waker makes the passes that webhooks ask for. Per work pool one pass runs at a
// time, webhooks during it share the next one, and a trailing pass comes last.
type waker struct {
	ctx       context.Context // ends when the server drains
	sleep     func(ctx context.Context, d time.Duration) error
	coalesced func()
	pass      func(ctx context.Context, pool string) (more bool)

	mu      sync.Mutex
	running map[string]bool
	dirty   map[string]bool
	passes  sync.WaitGroup
}

func newWaker(ctx context.Context, sleep func(context.Context, time.Duration) error, coalesced func(), pass func(context.Context, string) bool) *waker {
	if sleep == nil {
		sleep = clock.Sleep
	}
	return &waker{ctx: ctx, sleep: sleep, coalesced: coalesced, pass: pass, running: map[string]bool{}, dirty: map[string]bool{}}
}

// wake asks for a pass and returns at once.
func (w *waker) wake(pool string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ctx.Err() != nil:
	case w.running[pool]:
		w.dirty[pool] = true
		w.coalesced()
	default:
		w.running[pool] = true
		w.passes.Go(func() { w.loop(pool) })
	}
}

// loop makes a pass, a trailing one, and more while webhooks arrive, or while a pass
// says that the pod of a cancelled run is still ending.
func (w *waker) loop(pool string) {
	for passes := 1; ; passes++ {
		w.clean(pool)
		more := w.pass(w.ctx, pool) && passes < maxTrailingPasses
		if w.rest(pool, passes > 1 && !more) {
			return
		}
		if w.sleep(w.ctx, trailingDelay) != nil {
			w.stop(pool)
			return
		}
	}
}

// clean: the pass that follows serves all webhooks that arrived before it.
func (w *waker) clean(pool string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty[pool] = false
}

// rest ends the loop after a last pass during which no webhook arrived.
func (w *waker) rest(pool string, last bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !last || w.dirty[pool] {
		return false
	}
	w.running[pool] = false
	return true
}

func (w *waker) stop(pool string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[pool] = false
}

// wait returns when no pass is running any more.
func (w *waker) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		w.passes.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
