package tests

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// triggers come again and again, side by side, each a little after its last pass is
// over.
type triggers struct {
	rounds []atomic.Int64 // of each
	cancel context.CancelFunc
	all    sync.WaitGroup
}

// trigger is one of them: passes, each with its sweep, and now and then a sweep alone.
type trigger struct {
	place place
	pools []string
}

// start lets triggers come until stop, or until the test ends.
func start(t *testing.T, list ...trigger) *triggers {
	ctx, cancel := context.WithCancel(t.Context())
	all := &triggers{rounds: make([]atomic.Int64, len(list)), cancel: cancel}
	pause := 2 * time.Second // others use the machine too
	if full {
		pause /= 4
	}
	for i, trigger := range list {
		all.all.Go(func() {
			for ctx.Err() == nil {
				if all.rounds[i].Add(1)%3 == 0 {
					trigger.place.sweep(t, trigger.pools...)
				} else {
					trigger.place.dispatch(t, trigger.pools...)
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	t.Cleanup(all.stop)
	return all
}

func (all *triggers) stop() {
	all.cancel()
	all.all.Wait()
}

// more waits until each trigger has come so many times from now on.
func (all *triggers) more(t *testing.T, rounds int64) {
	t.Helper()
	want := make([]int64, len(all.rounds))
	for i := range want {
		want[i] = all.rounds[i].Load() + rounds + 1 // begun: the one that is under way does not count
	}
	eventually(t, fmt.Sprintf("%d rounds of each trigger", rounds), func() bool {
		for i := range want {
			if all.rounds[i].Load() < want[i] {
				return false
			}
		}
		return true
	})
}
