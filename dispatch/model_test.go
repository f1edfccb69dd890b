package dispatch

import (
	"fmt"
	"testing"
)

// The claim protocol in little: one flow run; three dispatchers that may die or
// lose answers at every step, one of them perhaps of a second cluster; the sweeps
// of both clusters; the pods and their engines, which may try again, or be told to
// end and put the run back; Jobs' time to live; the server's rewriting of a run that
// is late; and a user who cancels, sets a state, or asks for another try. All interleavings are explored. The server's rules are
// those of the contract.
//
// What is assumed is about time: a dispatcher has ended, and none of its requests is
// in flight, before a Job of its is removed for its age; no pod starts, ends and is removed between two requests of one sweep; and
// a Job that fails before its run started lives until a sweep has seen it, or until
// its pid is written. And nobody asks for another try while a dispatcher or a sweep
// is at the first. Clusters do not see each other's Jobs: where there are two, nobody
// sets a state or asks for another try while a Job is at work, and no engine puts
// its run back. One of these two at most comes about in one history.
type model struct {
	run     phase
	claim   int8 // 1 to 3: the newest, that dispatcher's; 0: none
	timed   bool // the claim has the due time: it came from SCHEDULED
	before  phase
	overdue bool // the claim is older than the orphan grace
	pid     int8 // the claim whose Job the run's infrastructure_pid names
	retried bool // a user has asked for another try
	again   bool // the engine has tried again
	put     bool // an engine was told to end and has put the run back
	due     int8 // changes whenever the run is SCHEDULED anew
	jobs    [2][5]jobPhase
	made    int8 // Jobs created, beside the former attempt's
	ran     int8 // pods that executed the flow
	d       [3]actor
	sweeps  [2]sweeper
}

type phase int8

const (
	scheduled phase = iota
	late
	pendingRun
	runningRun
	engineRetry // SCHEDULED for its engine: no poll returns it
	completedRun
	crashedRun
	cancellingRun
	cancelledRun
)

func (p phase) terminal() bool { return p == completedRun || p == crashedRun || p == cancelledRun }

type jobPhase int8

const (
	absent jobPhase = iota
	waiting
	atWork
	succeeded
	failedJob
	removed
)

func (j jobPhase) active() bool { return j == waiting || j == atWork }

// Where a dispatcher is.
const (
	polls int8 = iota
	claims
	creates
	createsAgain
	putsBack
	reports
	over
)

// actor is a dispatcher: where it is, and whether a create of its is under way.
type actor struct {
	at       int8
	due      int8 // as polled
	inFlight bool
}

type sweeper struct{ at, target int8 } // 0 look, 1 read again, 2 create

// rules are the mutants, each of which leaves one out, and where the second
// dispatcher is.
type rules struct {
	randomNames, unclaimUnknown, othersUnclaim, noCluster, anyJob, noStaleCheck, noFormerCheck bool

	twoClusters bool
}

func (u rules) clusterOf(claim int8) int8 {
	if u.twoClusters && claim == 2 {
		return 1
	}
	return 0
}

// Slot 0 of jobs is a former attempt's Job, 1 to 3 are named by the claims, 4 by
// chance.
const formerAttempt, byChance = 0, 4

func (m *model) create(cluster, claim int8, u rules) {
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
func (m model) next(u rules) []model {
	var all []model
	step := func(change func(*model)) {
		n := m
		change(&n)
		if n != m {
			all = append(all, n)
		}
	}
	for i := range m.d {
		if i < 2 || m.retried { // the third is for the second try
			m.dispatcher(int8(i), u, step)
		}
	}
	for k := range m.sweeps {
		m.sweep(int8(k), u, step)
	}
	m.pods(u, step)
	m.time(step)
	m.user(u, step)
	return all
}

func (m model) dispatcher(i int8, u rules, step func(func(*model))) {
	d, id := m.d[i], i+1
	cluster := u.clusterOf(id)
	if d.inFlight {
		step(func(n *model) { n.d[i].inFlight = false; n.create(cluster, id, u) })
		step(func(n *model) { n.d[i].inFlight = false })
	}
	if d.at != over && d.at != polls {
		step(func(n *model) { n.d[i].at = over }) // it dies
	}
	owns := m.run == pendingRun && m.claim == id
	switch d.at {
	case polls:
		former := false
		for _, job := range m.jobs[cluster] {
			former = former || job.active() && (m.pid > 0 || m.ran > 0 || m.retried || m.put)
		}
		if (m.run == scheduled || m.run == late) && (!former || u.noFormerCheck) {
			step(func(n *model) { n.d[i].at, n.d[i].due = claims, m.due })
		}
	case claims:
		m.propose(i, u, step)
	case creates, createsAgain:
		step(func(n *model) { n.create(cluster, id, u); n.d[i].at = reports })
		step(func(n *model) { n.d[i].inFlight, n.d[i].at = true, createsAgain })
		// The server says that it did nothing: the claim may be given back, but
		// not after an attempt whose effect is not known, and not once a sweep
		// may be making the Job.
		if owns && (d.at == creates && !m.overdue || d.at == createsAgain && u.unclaimUnknown) {
			step(func(n *model) { n.run, n.claim, n.d[i].at, n.due = scheduled, 0, over, m.due+1 })
		}
	case putsBack:
		step(func(n *model) {
			n.d[i].at = over
			if owns {
				n.run = n.before
			}
		})
	case reports:
		step(func(n *model) { n.pid, n.d[i].at = id, over })
	}
}

func (m model) propose(i int8, u rules, step func(func(*model))) {
	switch m.run {
	case scheduled, late, completedRun, crashedRun:
		step(func(n *model) {
			n.before, n.timed, n.overdue = m.run, m.run == scheduled || m.run == late, false
			n.run, n.claim, n.d[i].at = pendingRun, i+1, creates
			if (!n.timed || n.due != n.d[i].due) && !u.noStaleCheck {
				n.d[i].at = putsBack
			}
		})
	default:
		step(func(n *model) {
			n.d[i].at = over
			if u.othersUnclaim && m.run == pendingRun {
				n.run, n.claim = scheduled, 0
			}
		})
	}
}

// sweep is that of a cluster.
func (m model) sweep(k int8, u rules, step func(func(*model))) {
	s := m.sweeps[k]
	mine := u.clusterOf(m.claim) == k || u.noCluster
	if s.at == 2 {
		step(func(n *model) { n.create(k, s.target, u); n.sweeps[k] = sweeper{} })
		return
	}
	if m.claim == 0 || !mine {
		if s.at != 0 {
			step(func(n *model) { n.sweeps[k] = sweeper{} })
		}
		return
	}
	job := m.jobs[k][m.claim]
	gone := job == removed && m.pid == m.claim || (job == removed || job == absent) && m.run != pendingRun
	active := false
	for _, j := range m.jobs[k] {
		active = active || j.active()
	}
	owner := m.d[m.claim-1]
	switch {
	case s.at == 1:
		step(func(n *model) {
			n.sweeps[k] = sweeper{}
			if m.run == pendingRun && m.claim == s.target {
				n.sweeps[k] = sweeper{2, s.target}
			}
		})
	case active && !m.run.terminal() && m.run != cancellingRun && !u.anyJob:
		// A Job of it is at work.
	case m.run == pendingRun && m.overdue && job == absent && m.timed:
		step(func(n *model) { n.sweeps[k] = sweeper{1, m.claim} })
	case m.run == pendingRun && m.overdue && job == absent && owner.at == over:
		step(func(n *model) { n.run = n.before })
	case m.run == pendingRun || m.run == runningRun || m.run == engineRetry:
		if job == failedJob || gone || u.anyJob && m.jobs[k][formerAttempt] == failedJob {
			step(func(n *model) { n.run = crashedRun })
		}
		if job == succeeded {
			step(func(n *model) { n.run = crashedRun }) // it ended, and the run did not
		}
	case m.run == cancellingRun && active:
		for name, j := range m.jobs[k] {
			if j.active() {
				step(func(n *model) { n.jobs[k][name] = removed })
			}
		}
	case m.run == cancellingRun && owner.at == over && !owner.inFlight:
		step(func(n *model) { n.run = cancelledRun })
	case m.run.terminal() && job.active():
		step(func(n *model) { n.jobs[k][m.claim] = removed })
	}
}

// pods start, end well or badly; their engines try again once.
func (m model) pods(u rules, step func(func(*model))) {
	for k := range m.jobs {
		for name, job := range m.jobs[k] {
			switch job {
			case waiting:
				if m.run == cancellingRun || m.run == cancelledRun {
					continue // the server refuses its RUNNING
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
				if m.run == runningRun && !m.again {
					step(func(n *model) { n.run, n.again = engineRetry, true })
				}
				if m.run == runningRun && !m.put && !m.retried && !u.twoClusters {
					step(func(n *model) { n.run, n.put, n.due, n.jobs[k][name] = scheduled, true, m.due+1, waiting })
				}
				if m.run == engineRetry {
					step(func(n *model) { n.run = runningRun })
				}
			}
		}
	}
}

// time makes claims old and runs late, and ends the lives of Jobs.
func (m model) time(step func(func(*model))) {
	if m.run == pendingRun && !m.overdue {
		step(func(n *model) { n.overdue = true })
	}
	if m.run == scheduled {
		step(func(n *model) { n.run = late })
	}
	for k := range m.jobs {
		for name, job := range m.jobs[k] {
			seen := m.claim != int8(name) || m.pid == m.claim || m.run != pendingRun
			finished := job == succeeded || job == failedJob
			if name >= 1 && name <= len(m.d) && finished && seen && m.d[name-1].at == over && !m.d[name-1].inFlight {
				step(func(n *model) { n.jobs[k][name] = removed })
			}
		}
	}
}

// user cancels, or asks once for another try.
func (m model) user(u rules, step func(func(*model))) {
	switch {
	case m.run == pendingRun, m.run == runningRun:
		step(func(n *model) { n.run = cancellingRun })
		if !u.twoClusters {
			step(func(n *model) { n.run = completedRun }) // by hand
		}
	case m.run.terminal() && !m.retried && !m.put:
		for _, job := range append(m.jobs[0][:], m.jobs[1][:]...) {
			if job.active() && u.twoClusters {
				return
			}
		}
		for _, d := range m.d {
			if d.at != polls && (d.at != over || d.inFlight) {
				return
			}
		}
		if m.sweeps != ([2]sweeper{}) {
			return
		}
		step(func(n *model) { n.run, n.retried, n.due = scheduled, true, m.due+1 })
	}
}

// violation names what must never be.
func (m model) violation(quiet bool) string {
	active := 0
	for k := range m.jobs {
		for _, job := range m.jobs[k] {
			if job.active() {
				active++
			}
		}
	}
	tries := int8(1)
	if m.retried {
		tries++
	}
	if m.put {
		tries++
	}
	switch {
	case active > 1:
		return "two Jobs of one run at once"
	case m.made > tries:
		return "two Jobs for one try"
	case m.ran > tries:
		return "the flow ran twice in one try"
	case m.run == crashedRun && active > 0 && m.before != crashedRun:
		return "a run whose Job is active is CRASHED"
	case quiet && !m.run.terminal() && !m.idle():
		return "the run is stuck"
	}
	return ""
}

// idle: a run that is SCHEDULED waits for the next dispatcher, if all are over.
func (m model) idle() bool {
	if m.run != scheduled && m.run != late {
		return false
	}
	for i, d := range m.d {
		if d.at != over && (i < 2 || m.retried) {
			return false
		}
	}
	return true
}

// explore visits every state that can be reached, and returns their number and
// the first violation.
func explore(u rules) (int, string) {
	start := model{}
	start.jobs[0][formerAttempt] = failedJob // an earlier attempt of the same run
	came := map[model]model{start: start}
	queue := []model{start}
	for len(queue) > 0 {
		m := queue[0]
		queue = queue[1:]
		following := m.next(u)
		if fault := m.violation(len(following) == 0); fault != "" {
			return len(came), fault + trace(came, m)
		}
		for _, n := range following {
			if _, seen := came[n]; !seen {
				came[n] = m
				queue = append(queue, n)
			}
		}
	}
	return len(came), ""
}

// trace tells how a state was reached.
func trace(came map[model]model, m model) string {
	text := ""
	for ; ; m = came[m] {
		text = fmt.Sprintf("\n  %+v", m) + text
		if m == came[m] {
			return text
		}
	}
}

// TestProtocol: no interleaving makes two Jobs, runs the flow twice, or leaves the
// run stuck; and each rule is needed.
func TestProtocol(t *testing.T) {
	for name, u := range map[string]rules{"one cluster": {}, "two clusters": {twoClusters: true}} {
		states, fault := explore(u)
		if fault != "" {
			t.Errorf("%s: %s", name, fault)
		}
		t.Logf("%s: %d states", name, states)
	}
	for name, u := range map[string]rules{
		"random Job names":                    {randomNames: true},
		"un-claim after an unknown outcome":   {unclaimUnknown: true},
		"a non-owner un-claims":               {othersUnclaim: true},
		"no cluster in the claim":             {noCluster: true, twoClusters: true},
		"judging a run by any Job":            {anyJob: true},
		"no stale-claim check":                {noStaleCheck: true},
		"a claim beside a former Job at work": {noFormerCheck: true},
	} {
		if states, fault := explore(u); fault == "" {
			t.Errorf("%s: nothing goes wrong in %d states", name, states)
		}
	}
}
