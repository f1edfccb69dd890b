package tests

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"slipway/e2e/prefectserver"
)

// cutWorld is a world in which the power is cut: the installation that it happens
// to, and another that looks on.
type cutWorld struct {
	name            string
	victim, onlook  place
	pools           func(at int) []string // of a pass that is cut
	onlookers       func(at int) string   // the pool of a run in flight beside it
	subjects        []*subject
	again           map[int][]*subject // by cut: what its pass has to do
	until           signal
	failedAndReturn []*subject
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
			pools:     func(at int) []string { return []string{fmt.Sprintf("wcut-%d", at)} },
			onlookers: func(at int) string { return fmt.Sprintf("wcut-%d", at) },
		})
	})
	t.Run("two pools, namespaced", func(t *testing.T) {
		t.Parallel()
		victim := first(t, false, "SLIPWAY_ORPHAN_GRACE=0s", "SLIPWAY_CONCURRENCY=1")
		cutPower(t, &cutWorld{
			name: "two pools, namespaced", victim: victim, onlook: victim,
			pools:     func(at int) []string { return []string{fmt.Sprintf("ncut-%d-a", at), fmt.Sprintf("ncut-%d-b", at)} },
			onlookers: func(at int) string { return fmt.Sprintf("ncut-%d-b", at) },
		})
	})
}

// cutPower makes a pass that is not cut, to count its requests, and then the others.
func cutPower(t *testing.T, c *cutWorld) {
	t.Helper()
	c.until, c.again = newSignal(t), map[int][]*subject{}
	gate := c.victim.cutter(t)
	behind := gate.behind(t)
	c.prepare(t, 0)
	gate.cut(t, behind, 0, nil, false, append([]string{"dispatch"}, poolFlags(c.pools(0))...)...)
	requests := gate.seen
	cuts := c.draw(requests)
	c.prepare(t, cuts...)
	made := 0
	for _, cut := range cuts {
		after := cut > requests
		at := (cut-1)%requests + 1
		if gate.cut(t, behind, at, nil, after, append([]string{"dispatch"}, poolFlags(c.pools(cut))...)...) {
			made++
		}
		c.onlook.sweep(t, c.onlookers(cut))
		within(t, patience, "both runs have their Jobs", func() bool {
			c.victim.dispatch(t, c.pools(cut)...)
			return settledAll(t, c.again[cut])
		})
	}
	c.until.give(t)
	untilEnded(t, c.subjects, patience)
	judge(t, "power cut, "+c.name, c.pools(0)[0][:5], made, c.subjects, fmt.Sprintf("a pass has %d requests", requests))
	if made < len(cuts)/2 {
		t.Errorf("of %d cuts %d were made", len(cuts), made)
	}
}

// draw numbers the cuts: 1 to n before the nth request, n+1 to 2n after it. CI makes
// a few of them.
func (c *cutWorld) draw(requests int) (cuts []int) {
	for cut := range 2 * requests {
		cuts = append(cuts, cut+1)
	}
	if full {
		return cuts
	}
	random := rand.New(rand.NewPCG(seed, uint64(len(c.name))))
	random.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
	return cuts[:4]
}

// prepare makes the pools and runs of cuts, and brings the runs to where the cut
// pass finds them.
func (c *cutWorld) prepare(t *testing.T, cuts ...int) {
	t.Helper()
	flying := kind{name: "in flight", waits: true, holds: "RUNNING", attempts: 1, end: "COMPLETED"}
	retried := kind{name: "retried", env: map[string]string{"PROBE_ENDS": "FAILED,COMPLETED"}, attempts: 2, end: "COMPLETED", allowed: map[string]int{"SCHEDULED": 1}}
	var aside, failed []*subject
	var deployments []string
	var all, onlookers []string
	for _, cut := range cuts {
		names := c.pools(cut)
		for _, name := range names {
			deployments = append(deployments, c.victim.pool(t, name, nil))
		}
		beside := deployments[len(deployments)-1]
		if c.onlook.server != c.victim.server {
			beside = c.onlook.pool(t, c.onlookers(cut), nil)
		}
		d := deployments[len(deployments)-len(names)]
		aside = append(aside, c.onlook.subject(t, flying, beside, nil, c.until))
		failed = append(failed, c.victim.subject(t, retried, d, nil, c.until))
		all, onlookers = append(all, names...), append(onlookers, c.onlookers(cut))
	}
	c.victim.claim(t, failed, all...)
	c.onlook.claim(t, aside, onlookers...)
	untilHeld(t, aside, patience)
	drive(t, failed, false, patience, func(s *subject) bool { return prefectserver.IsFinal(s.state) })
	for i, s := range failed {
		untilJobEnded(t, s) // no claim beside an active Job
		if err := retry(t.Context(), s.place.server, s.id); err != nil {
			t.Error(err)
		}
		names := c.pools(cuts[i])
		d := deployments[i*len(names)]
		fresh := c.victim.subject(t, kind{name: "first attempt", attempts: 1, end: "COMPLETED"}, d, nil, c.until)
		c.again[cuts[i]] = []*subject{s, fresh}
		c.subjects = append(c.subjects, aside[i], s, fresh)
	}
}
