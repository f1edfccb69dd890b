package tests

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// cutWorld is a world in which the power is cut: the installation that it happens
// to, and another that looks on.
type cutWorld struct {
	name           string
	victim, onlook place
	pools          func(cut int) []string // of the pass that is cut
	beside         func(cut int) string   // the pool of a run in flight
	until          signal
	subjects       []*subject
}

// cut is a pass that dies, and the runs in its pools.
type cut struct {
	number     int
	pools      []string
	deployment string     // of the runs that the pass is to submit
	flying     *subject   // beside them
	due        []*subject // a retry and a first attempt
}

// TestWorldPowerCuts kills the dispatcher before and after each request of a pass,
// in each of two worlds. The pass has a first attempt and a retry to do, and another
// run is in flight beside it: in the pool of the same name of another server, or in
// another pool of the same dispatcher.
func TestWorldPowerCuts(t *testing.T) {
	t.Parallel() // it mostly waits
	t.Run("two servers, cluster-wide", func(t *testing.T) {
		t.Parallel()
		victim := first(t, true, "SLIPWAY_ORPHAN_GRACE=0s", "SLIPWAY_CONCURRENCY=1")
		cutPower(t, &cutWorld{
			name: "two servers, cluster-wide", victim: victim, onlook: second(t, true, "SLIPWAY_ORPHAN_GRACE=0s"),
			pools:  func(cut int) []string { return []string{fmt.Sprintf("wcut-%d", cut)} },
			beside: func(cut int) string { return fmt.Sprintf("wcut-%d", cut) },
		})
	})
	t.Run("two pools, namespaced", func(t *testing.T) {
		t.Parallel()
		victim := first(t, false, "SLIPWAY_ORPHAN_GRACE=0s", "SLIPWAY_CONCURRENCY=1")
		cutPower(t, &cutWorld{
			name: "two pools, namespaced", victim: victim, onlook: victim,
			pools:  func(cut int) []string { return []string{fmt.Sprintf("ncut-%d-a", cut), fmt.Sprintf("ncut-%d-b", cut)} },
			beside: func(cut int) string { return fmt.Sprintf("ncut-%d-b", cut) },
		})
	})
}

// cutPower makes a pass that is not cut, to count its requests, and then the others.
func cutPower(t *testing.T, c *cutWorld) {
	t.Helper()
	c.until = newSignal(t)
	gate := c.victim.cutter(t)
	behind := gate.behind(t)
	whole := c.prepare(t, []int{0})[0]
	gate.cut(t, behind, 0, nil, false, append([]string{"dispatch"}, poolFlags(whole.pools)...)...)
	requests := gate.seen
	c.goOn(t, whole)
	cuts := c.prepare(t, c.draw(requests))
	made := 0
	for _, cut := range cuts {
		at, after := (cut.number-1)%requests+1, cut.number > requests
		if gate.cut(t, behind, at, nil, after, append([]string{"dispatch"}, poolFlags(cut.pools)...)...) {
			made++
		}
		c.goOn(t, cut)
	}
	c.until.give(t)
	untilEnded(t, c.subjects)
	judge(t, "power cut, "+c.name, whole.pools[0][:5], made, c.subjects, fmt.Sprintf("a pass has %d requests", requests))
	if made < len(cuts)/2 {
		t.Errorf("of %d cuts %d were made", len(cuts), made)
	}
}

// goOn is what comes after a cut: a sweep of the onlooker, and ordinary passes.
func (c *cutWorld) goOn(t *testing.T, cut *cut) {
	t.Helper()
	c.onlook.sweep(t, c.beside(cut.number))
	eventually(t, "both runs have their Jobs", func() bool {
		c.victim.dispatch(t, cut.pools...)
		return settledAll(t, cut.due)
	})
}

// draw numbers the cuts: 1 to n before the nth request, n+1 to 2n after it. CI makes
// a few of them.
func (c *cutWorld) draw(requests int) (numbers []int) {
	for n := range 2 * requests {
		numbers = append(numbers, n+1)
	}
	if full {
		return numbers
	}
	random := rand.New(rand.NewPCG(seed, uint64(len(c.name))))
	random.Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
	return numbers[:4]
}

// prepare makes the pools and runs of cuts, and brings the runs to where the passes
// find them: one in flight, one that has failed and is retried, one that is new.
func (c *cutWorld) prepare(t *testing.T, numbers []int) (cuts []*cut) {
	t.Helper()
	var flying, failed []*subject
	var pools, beside []string
	for _, number := range numbers {
		cut := c.layOut(t, number)
		cuts = append(cuts, cut)
		flying, failed = append(flying, cut.flying), append(failed, cut.due...)
		pools, beside = append(pools, cut.pools...), append(beside, c.beside(number))
	}
	c.victim.claim(t, failed, pools...)
	c.onlook.claim(t, flying, beside...)
	untilHeld(t, flying)
	drive(t, failed, false, func(s *subject) bool { return s.state == "FAILED" })
	for _, cut := range cuts {
		retried := cut.due[0]
		untilJobEnded(t, retried) // no run is claimed beside an active Job of it
		if err := retry(t.Context(), c.victim.server, retried.id); err != nil {
			t.Fatal(err)
		}
		fresh := c.victim.subject(t, kind{name: "first attempt", attempts: 1, end: "COMPLETED"}, cut.deployment, c.until)
		cut.due = append(cut.due, fresh)
		c.subjects = append(c.subjects, cut.flying, retried, fresh)
	}
	return cuts
}

// layOut makes the pools of a cut, a run that is to fly, and one that is to fail.
func (c *cutWorld) layOut(t *testing.T, number int) *cut {
	t.Helper()
	flies := kind{name: "in flight", waits: true, holds: "RUNNING", attempts: 1, end: "COMPLETED"}
	fails := kind{name: "retried", env: map[string]string{"PROBE_ENDS": "FAILED,COMPLETED"}, attempts: 2, end: "COMPLETED", allowed: map[string]int{"SCHEDULED": 1}}
	cut := &cut{number: number, pools: c.pools(number)}
	beside := ""
	for i, pool := range cut.pools {
		beside = c.victim.pool(t, pool, nil)
		if i == 0 {
			cut.deployment = beside
		}
	}
	if c.onlook.server != c.victim.server {
		beside = c.onlook.pool(t, c.beside(number), nil)
	}
	cut.flying = c.onlook.subject(t, flies, beside, c.until)
	cut.due = []*subject{c.victim.subject(t, fails, cut.deployment, c.until)}
	return cut
}
