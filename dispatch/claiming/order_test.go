package claiming

import (
	"context"
	"sync"
	"testing"
)

// TestPlaces: no more runs are submitted than the limit, and none less, however many
// leave their place unused.
func TestPlaces(t *testing.T) {
	for limit := 1; limit <= 4; limit++ {
		p := newPlaces(limit)
		var mu sync.Mutex
		submitted, tried := 0, 0
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if !p.take(t.Context()) {
					return
				}
				mu.Lock()
				tried++
				needed := tried%2 == 0 // every other one is refused
				if needed {
					submitted++
				}
				mu.Unlock()
				p.leave(needed)
			})
		}
		all.Wait()
		if submitted != limit || !p.full() || p.take(t.Context()) {
			t.Errorf("limit %d: %d submitted", limit, submitted)
		}
	}
}

// TestPlacesEndWithTheContext: nobody waits for a place after that.
func TestPlacesEndWithTheContext(t *testing.T) {
	p := newPlaces(1)
	if !p.take(t.Context()) {
		t.Fatal("no place")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p.take(ctx) {
		t.Error("a place was taken twice")
	}
	if p = newPlaces(0); !p.take(t.Context()) || p.full() {
		t.Error("without a limit there is always a place")
	}
}

// TestTurns: each has its turn after all before it have passed, or never.
func TestTurns(t *testing.T) {
	const n = 8
	order := turns(n)
	var mu sync.Mutex
	var got []int
	var all sync.WaitGroup
	for i := n - 1; i >= 0; i-- {
		all.Go(func() {
			order[i].wait(t.Context())
			mu.Lock()
			got = append(got, i)
			mu.Unlock()
			order[i].pass()
			order[i].pass()
		})
	}
	all.Wait()
	for i, turn := range got {
		if i != turn {
			t.Fatalf("the order is %v", got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	turns(2)[1].wait(ctx)
}
