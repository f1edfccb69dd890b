package handler

import (
	"context"
	"sync"
	"time"

	"slipway/internal/clock"
)

// waker coalesces wakes: per work pool one pass runs at a time, wakes during it
// are answered by one more, and each burst ends with a trailing pass.
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

// loop makes a pass, a trailing one, and more while wakes come in, or while the
// last one has left something that ends by itself in a moment.
func (w *waker) loop(pool string) {
	for passes := 1; ; passes++ {
		w.clean(pool)
		more := w.pass(w.ctx, pool) && passes < mostTrailing
		if w.rest(pool, passes > 1 && !more) {
			return
		}
		if w.sleep(w.ctx, trailing) != nil {
			w.stop(pool)
			return
		}
	}
}

// clean: wakes before this moment are answered by the pass that follows.
func (w *waker) clean(pool string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty[pool] = false
}

// rest ends the loop after a last pass during which nobody woke it.
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
