package tests

import (
	"fmt"
	"testing"

	"slipway/e2e/prefectserver"
)

// TestWorldServersAndPools: two Prefect servers, and in the whole proof one of 2.20,
// whose Slipways share a cluster and a namespace, each with two work pools of the same
// names, and in each pool runs with every history. Triggers of each server and pool,
// and of both pools at once, come again and again with a settle grace of a second.
func TestWorldServersAndPools(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, clusterWide := range []bool{true, false} {
		t.Run(rights(clusterWide), func(t *testing.T) {
			t.Parallel()
			prefix := "servers-" + rights(clusterWide)[:4]
			until := newSignal(t)
			var subjects []*subject
			var list []trigger
			pools := []string{prefix + "-a", prefix + "-b"}
			places := []place{first(t, clusterWide), second(t, clusterWide)}
			if full {
				places = append(places, beside(t, prefectserver.Worker2, clusterWide))
			}
			for _, p := range places {
				for i, pool := range pools {
					d := p.pool(t, pool, nil)
					for range copies(2) {
						for j, k := range kinds() {
							if full || i == j%2 { // for CI every other one in either pool
								subjects = append(subjects, p.subject(t, k, d, until))
							}
						}
					}
					list = append(list, trigger{p, []string{pool}})
				}
				list = append(list, trigger{p, pools})
			}
			come := start(t, list...)
			untilHeld(t, subjects)
			come.more(t, 3)
			until.give(t)
			untilEnded(t, subjects)
			come.more(t, 2)
			come.stop()
			judge(t, fmt.Sprintf("%d servers, 2 pools each, %s", len(places), rights(clusterWide)), prefix+"-", 0, subjects, fmt.Sprintf("%d sweeps side by side", len(list)))
		})
	}
}

// copies is a number for the whole proof, and one for CI.
func copies(whole int) int {
	if full {
		return whole
	}
	return 1
}

// TestWorldServerChanges: PREFECT_API_URL names another server while Jobs of the
// first run, and then the first again.
func TestWorldServerChanges(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, clusterWide := range bothRights() {
		t.Run(rights(clusterWide), func(t *testing.T) {
			t.Parallel()
			before, after := first(t, clusterWide), second(t, clusterWide)
			pool := "changes-" + rights(clusterWide)[:4]
			until := newSignal(t)
			var subjects []*subject
			d := before.pool(t, pool, nil)
			for range copies(3) {
				for _, k := range someKinds(1) {
					subjects = append(subjects, before.subject(t, k, d, until))
				}
			}
			came := start(t, trigger{before, []string{pool}})
			untilHeld(t, subjects)
			came.stop()
			// Between its claim and its Job: the sweeps of the other server have nothing to do with it.
			orphan := before.subject(t, kind{name: "orphan", attempts: 1, end: "COMPLETED"}, d, until)
			subjects = append(subjects, orphan)
			before.killedAt(t, makesJob, false, "dispatch", "--work-pool", pool)
			subjects = append(subjects, after.subject(t, kinds()[0], after.pool(t, pool, nil), until))
			come := start(t, trigger{after, []string{pool}})
			come.more(t, 4)
			come.stop()
			if state := stateOf(t, orphan.id); state != "PENDING" {
				t.Errorf("the claim of the first server is %s", state)
			}
			come = start(t, trigger{before, []string{pool}})
			come.more(t, 1)
			until.give(t)
			untilEnded(t, subjects)
			come.stop()
			judge(t, "PREFECT_API_URL changes, "+rights(clusterWide), pool+"-", 1, subjects, "")
		})
	}
}

// TestWorldPoolMadeAgain: a work pool is deleted and made again under its name while
// its Jobs run.
func TestWorldPoolMadeAgain(t *testing.T) {
	t.Parallel() // it mostly waits
	p := first(t, true)
	until := newSignal(t)
	const pool = "again"
	d := p.pool(t, pool, nil)
	flying := kind{name: "in flight", waits: true, holds: "RUNNING", attempts: 1, end: "COMPLETED"}
	subjects := []*subject{p.subject(t, flying, d, until), p.subject(t, flying, d, until)}
	p.claim(t, subjects, pool)
	untilHeld(t, subjects)
	p.call(t, "DELETE", "/work_pools/"+pool, nil)
	subjects = append(subjects, p.subject(t, kinds()[0], p.pool(t, pool, nil), until))
	come := start(t, trigger{p, []string{pool}})
	come.more(t, 4)
	until.give(t)
	untilEnded(t, subjects)
	come.stop()
	judge(t, "a work pool deleted and made again", pool+"-", 1, subjects, "")
}
