package dispatch

import (
	"fmt"
	"testing"
)

// The claim protocol in little: one flow run, two dispatchers that may die or lose
// answers at every step, the sweeps of two clusters, the pods, and time. All
// interleavings are explored. The server's rules are those of the contract.
//
// Two assumptions are about time: a request is not in flight for longer than a
// Job's time to live, and no pod starts, ends and is removed between two requests
// of one sweep.
type model struct {
	run     phase
	claim   int8 // 1 or 2: that dispatcher's; 0: none
	timed   bool // the claim has the due time: it came from SCHEDULED
	before  phase
	overdue bool // the claim is older than the orphan grace
	jobs    [2][4]jobPhase
	made    int8 // Jobs created, beside the former attempt's
	ran     int8 // pods that executed the flow
	d       [2]actor
	sweeps  [2]sweeper
}

type phase int8

const (
	scheduled phase = iota
	pendingRun
	runningRun
	completedRun
	crashedRun
	cancellingRun
	cancelledRun
)

type jobPhase int8

const (
	absent jobPhase = iota
	waiting
	atWork
	succeeded
	failedJob
	removed
)

// actor is a dispatcher: where it is, and whether a create of its is under way.
type actor struct {
	at       int8 // 0 poll, 1 claim, 2 create, 3 create again, 4 put back, 5 over
	inFlight bool
}

type sweeper struct{ at, target int8 } // 0 look, 1 read again, 2 create

// mutant leaves a rule of the protocol out.
type mutant struct {
	randomNames, unclaimUnknown, othersUnclaim, noCluster, anyJob, noStaleCheck bool
}

// Slot 0 of jobs is a former attempt's Job, 1 and 2 are named by the claims, 3 by
// chance.
const formerAttempt, byChance = 0, 3

func (m *model) create(cluster, claim int8, u mutant) {
	name := claim
	if u.randomNames && m.jobs[cluster][name] != absent {
		name = byChance
		if m.jobs[cluster][name] != absent {
			return // enough was seen
		}
	}
	if m.jobs[cluster][name] == absent {
		m.jobs[cluster][name] = waiting
		m.made++
	}
}

// next lists all states that one step leads to.
func (m model) next(u mutant) []model {
	var all []model
	step := func(change func(*model)) {
		n := m
		change(&n)
		if n != m {
			all = append(all, n)
		}
	}
	for i := range m.d {
		m.dispatcher(int8(i), u, step)
	}
	for k := range m.sweeps {
		m.sweep(int8(k), u, step)
	}
	m.pods(step)
	if m.run == pendingRun && !m.overdue {
		step(func(n *model) { n.overdue = true })
	}
	if m.run == pendingRun || m.run == runningRun {
		step(func(n *model) { n.run = cancellingRun })
	}
	return all
}

func (m model) dispatcher(i int8, u mutant, step func(func(*model))) {
	d, id := m.d[i], i+1
	if d.inFlight {
		step(func(n *model) { n.d[i].inFlight = false; n.create(0, id, u) })
		step(func(n *model) { n.d[i].inFlight = false })
	}
	if d.at < 5 && d.at > 0 {
		step(func(n *model) { n.d[i].at = 5 }) // it dies
	}
	owns := m.run == pendingRun && m.claim == id
	switch d.at {
	case 0:
		if m.run == scheduled {
			step(func(n *model) { n.d[i].at = 1 })
		}
	case 1:
		m.propose(i, u, step)
	case 2, 3:
		step(func(n *model) { n.create(0, id, u); n.d[i].at = 5 })
		step(func(n *model) { n.d[i].inFlight, n.d[i].at = true, 3 })
		// The server says that it did nothing: the claim may be given back, but
		// not after an attempt whose effect is not known, and not once a sweep
		// may be making the Job.
		if owns && (d.at == 2 && !m.overdue || d.at == 3 && u.unclaimUnknown) {
			step(func(n *model) { n.run, n.claim, n.d[i].at = scheduled, 0, 5 })
		}
	case 4:
		step(func(n *model) {
			n.d[i].at = 5
			if owns {
				n.run = n.before
			}
		})
	}
}

func (m model) propose(i int8, u mutant, step func(func(*model))) {
	switch m.run {
	case scheduled, completedRun, crashedRun:
		step(func(n *model) {
			n.before, n.timed, n.overdue = m.run, m.run == scheduled, false
			n.run, n.claim, n.d[i].at = pendingRun, i+1, 2
			if !n.timed && !u.noStaleCheck {
				n.d[i].at = 4
			}
		})
	default:
		step(func(n *model) {
			n.d[i].at = 5
			if u.othersUnclaim && m.run == pendingRun {
				n.run, n.claim = scheduled, 0
			}
		})
	}
}

// sweep is that of a cluster; all claims are of cluster 0.
func (m model) sweep(k int8, u mutant, step func(func(*model))) {
	s := m.sweeps[k]
	mine := k == 0 || u.noCluster
	if m.claim == 0 || !mine {
		return
	}
	job := m.jobs[k][m.claim]
	switch {
	case s.at == 2:
		step(func(n *model) { n.create(k, s.target, u); n.sweeps[k] = sweeper{} })
	case s.at == 1:
		step(func(n *model) {
			n.sweeps[k] = sweeper{}
			if m.run == pendingRun && m.claim == s.target {
				n.sweeps[k] = sweeper{2, s.target}
			}
		})
	case m.run == pendingRun && m.overdue && job == absent && m.timed:
		step(func(n *model) { n.sweeps[k] = sweeper{1, m.claim} })
	case m.run == pendingRun && m.overdue && job == absent && m.d[m.claim-1].at == 5:
		step(func(n *model) { n.run = n.before })
	case (m.run == pendingRun || m.run == runningRun) && (job == failedJob || u.anyJob && m.jobs[k][formerAttempt] == failedJob):
		step(func(n *model) { n.run = crashedRun })
	case m.run == cancellingRun && (job == waiting || job == atWork):
		step(func(n *model) { n.jobs[k][m.claim] = removed })
	case m.run == cancellingRun && m.d[m.claim-1] == actor{at: 5}:
		step(func(n *model) { n.run = cancelledRun })
	case k == 0 && m.run >= completedRun && m.run != cancellingRun && (job == waiting || job == atWork):
		step(func(n *model) { n.jobs[k][m.claim] = removed })
	}
}

// pods start, end well or badly, and are removed after a while.
func (m model) pods(step func(func(*model))) {
	for k := range m.jobs {
		for name, job := range m.jobs[k] {
			switch job {
			case waiting:
				if m.run == cancellingRun || m.run == cancelledRun {
					continue
				}
				step(func(n *model) { n.jobs[k][name], n.run = atWork, runningRun; n.ran++ })
				step(func(n *model) { n.jobs[k][name] = failedJob })
			case atWork:
				step(func(n *model) {
					n.jobs[k][name] = succeeded
					if m.run == runningRun {
						n.run = completedRun
					}
				})
				step(func(n *model) { n.jobs[k][name] = failedJob })
			}
		}
	}
}

// violation names what must never be.
func (m model) violation(quiet bool) string {
	active := false
	for k := range m.jobs {
		for _, job := range m.jobs[k] {
			active = active || job == waiting || job == atWork
		}
	}
	switch {
	case m.made > 1:
		return "two Jobs for one run"
	case m.ran > 1:
		return "the flow ran twice"
	case m.run == crashedRun && active && m.before != crashedRun:
		return "a run whose Job is active is CRASHED"
	case quiet && (m.run == pendingRun || m.run == runningRun || m.run == cancellingRun):
		return "the run is stuck"
	}
	return ""
}

// explore visits every state that can be reached, and returns their number and
// the first violation.
func explore(u mutant) (int, string) {
	start := model{}
	start.jobs[0][formerAttempt] = failedJob // an earlier attempt of the same run
	seen := map[model]bool{start: true}
	queue := []model{start}
	for len(queue) > 0 {
		m := queue[0]
		queue = queue[1:]
		following := m.next(u)
		if fault := m.violation(len(following) == 0); fault != "" {
			return len(seen), fmt.Sprintf("%s: %+v", fault, m)
		}
		for _, n := range following {
			if !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	return len(seen), ""
}

// TestProtocol: no interleaving makes two Jobs, runs the flow twice, or leaves the
// run stuck; and each rule is needed.
func TestProtocol(t *testing.T) {
	states, fault := explore(mutant{})
	if fault != "" {
		t.Errorf("the protocol: %s", fault)
	}
	t.Logf("%d states", states)
	for name, u := range map[string]mutant{
		"random Job names":                  {randomNames: true},
		"un-claim after an unknown outcome": {unclaimUnknown: true},
		"a non-owner un-claims":             {othersUnclaim: true},
		"no cluster in the claim":           {noCluster: true},
		"judging a run by any Job":          {anyJob: true},
		"no stale-claim check":              {noStaleCheck: true},
	} {
		if states, fault := explore(u); fault == "" {
			t.Errorf("%s: nothing goes wrong in %d states", name, states)
		}
	}
}
