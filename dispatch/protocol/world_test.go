package protocol

import (
	"fmt"
	"slices"
)

// gap: a request is under way that relies on what its sender has just read.
func (m model) gap() bool {
	return slices.ContainsFunc(m.d[:], dispatcher.inGap) ||
		slices.ContainsFunc(m.sweeps[:], func(w sweeper) bool { return w.at == acts })
}

// gapOf: such a request is about the Job of a name.
func (m model) gapOf(name int8, act action) bool {
	if act == create && name < otherName && m.d[name-1].inGap() {
		return true
	}
	return slices.ContainsFunc(m.sweeps[:], func(w sweeper) bool { return w.at == acts && w.act == act && w.target == name })
}

// pod is the life of a Job, its pod and its engine.
func (s *stepper) pod(k int, name int8) {
	m, job := s.m, s.m.jobs[k][name]
	become := func(to jobPhase) func(*model) { return func(n *model) { n.jobs[k][name] = to } }
	switch job {
	case waiting:
		s.podWaits(k, name)
	case stuck:
		if !m.gap() {
			s.chance(become(waiting)) // its image is there now
		}
	case atWork:
		s.engine(k, name)
	case ending:
		s.sure(become(finished))
		if s.w.hangs {
			s.chance(become(hung))
		}
	case deleting, podLeft:
		if !m.gapOf(name, create) {
			s.sure(become(absent))
		}
	case finished:
		if s.w.ttl && !m.gap() {
			s.sure(func(n *model) {
				n.jobs[k][name] = absent
				if m.left > 0 {
					n.made = 0
				}
			})
		}
	}
}

// podWaits: the server refuses RUNNING where a run is being cancelled, is cancelled,
// suspended or deleted, and accepts it from all other states.
func (s *stepper) podWaits(k int, name int8) {
	m := s.m
	become := func(to jobPhase) func(*model) { return func(n *model) { n.jobs[k][name] = to } }
	s.chance(become(finished))
	if s.w.getsStuck {
		s.chance(become(stuck))
	}
	switch {
	case m.gapOf(name, deleteJob):
	case m.run == cancelling, m.run == cancelled, m.run == paused, m.run == deleted:
		s.sure(become(finished))
	default:
		s.sure(func(n *model) {
			n.setRun(running)
			n.jobs[k][name] = atWork
			n.left--
			if n.left < 0 {
				n.fail(ranTwice)
			}
		})
	}
}

// engine is a pod that has started.
func (s *stepper) engine(k int, name int8) {
	m := s.m
	to := func(p phase, job jobPhase) func(*model) {
		return func(n *model) { n.setRun(p); n.jobs[k][name] = job }
	}
	s.chance(func(n *model) { n.jobs[k][name] = finished }) // it dies without a word
	switch {
	case m.gapOf(name, deleteJob):
	case m.run == cancelling:
		s.sure(to(cancelled, ending))
		if s.w.hangs {
			s.chance(func(n *model) { n.jobs[k][name] = hung })
		}
	case m.run == awaitingRetry, m.run == pending && m.before == awaitingRetry:
		s.sure(to(running, atWork))
	case m.run.terminal(), m.run == deleted:
		s.sure(func(n *model) { n.jobs[k][name] = finished })
	default:
		s.sure(to(completed, ending))
	}
	if m.run != running {
		return
	}
	if s.w.engineRetries && !m.used.engineRetried {
		s.chance(func(n *model) { n.setRun(awaitingRetry); n.makeStale(); n.used.engineRetried = true })
	}
	if s.w.suspends && !m.used.suspended {
		s.chance(func(n *model) { n.setRun(paused); n.jobs[k][name] = ending; n.used.suspended = true })
	}
	if s.w.evicts && !m.used.evicted && m.left == 0 {
		for _, after := range []jobPhase{finished, waiting} { // a pod in its place, if the Job has tries left
			s.chance(func(n *model) { n.schedule(); n.jobs[k][name] = after; n.used.evicted = true })
		}
	}
}

// time makes claims and states old, and runs late.
func (s *stepper) time() {
	m := s.m
	reporting := slices.ContainsFunc(m.d[:], func(d dispatcher) bool { return d.at == reports })
	ends := slices.Contains(m.jobs[0][:], ending) || slices.Contains(m.jobs[1][:], ending)
	if (m.run == pending || m.run == cancelling) && !m.overdue && !reporting && !ends {
		s.sure(func(n *model) { n.overdue = true })
	}
	if m.run == scheduled && s.w.late {
		s.sure(func(n *model) { n.setRun(late) })
	}
	engineEnds := ends || m.run == cancelling && m.atWork()
	if waits := m.run.terminal() || m.run == deleted || m.run == cancelling || m.run.polled(); waits && !engineEnds && !m.settled {
		s.sure(func(n *model) { n.settled = true })
	}
}

// user cancels, sets states by hand, and asks for another attempt. A run that is only
// SCHEDULED and has no pid is CANCELLED at once.
func (s *stepper) user() {
	m, w := s.m, s.w
	deletes := slices.ContainsFunc(m.sweeps[:], func(w sweeper) bool { return w.at == acts && w.act == deleteJob })
	if w.cancels && !deletes && !m.run.terminal() && m.run != deleted && m.run != cancelling {
		s.chance(func(n *model) {
			infrastructure := m.run == pending || m.run == running || m.pid > 0 && m.claim > 0 && m.run != paused
			n.setRun(cancelled)
			if infrastructure {
				n.setRun(cancelling)
				n.ended = m.ended
			}
		})
	}
	if m.gap() {
		return
	}
	if w.byHand && (m.run == pending || m.run == running) {
		s.chance(func(n *model) { n.setRun(completed) })
		s.chance(func(n *model) { n.setRun(crashed) })
	}
	if w.retries && m.run.terminal() && !m.used.retried && (w.clusters() == 1 || !m.earlierActive(0, 0, 0, mutant{}) && !m.earlierActive(1, 0, 0, mutant{})) {
		s.chance(func(n *model) { n.schedule(); n.used.retried = true })
	}
	if m.run == paused {
		s.chance(func(n *model) { n.schedule() })
	}
	if w.deletes && m.run != deleted {
		s.chance(func(n *model) { n.setRun(deleted) })
	}
	if w.moves && !m.used.moved {
		s.chance(func(n *model) { n.pool, n.used.moved = 1, true })
	}
}

// String spells a state for a trace, without what is zero.
func (m model) String() string {
	text := fmt.Sprintf("%-10s claim=%d pid=%d left=%d", m.run, m.claim, m.pid, m.left)
	for k := range m.jobs {
		for name, job := range m.jobs[k] {
			if job != absent {
				text += fmt.Sprintf(" job%d/%d=%s", k, name, job)
			}
		}
	}
	for i, d := range m.d {
		text += word(d != dispatcher{}, fmt.Sprintf("D%d=%s", i+1, d))
	}
	for i, w := range m.sweeps {
		text += word(w != sweeper{}, fmt.Sprintf("S%d=%s", i+1, w))
	}
	text += word(m.timed, "timed") + word(m.twice, "twice") + word(m.overdue, "overdue") + word(m.settled, "settled") + word(m.before != scheduled, "before="+m.before.String())
	return text + word(m.ended > 0, fmt.Sprintf("ended=%b", m.ended)) + word(m.used.retried, "retried") + word(m.pool > 0, "moved")
}

// word is a word of a trace, if it is so.
func word(is bool, text string) string {
	if !is {
		return ""
	}
	return " " + text
}

func (p phase) String() string {
	return [...]string{"Scheduled", "Late", "AwaitingRetry(in_process)", "PENDING", "RUNNING", "Suspended", "COMPLETED", "CRASHED", "CANCELLING", "CANCELLED", "deleted"}[p]
}

func (j jobPhase) String() string {
	return [...]string{"absent", "waiting", "stuck", "atWork", "ending", "hung", "deleting", "podLeft", "finished"}[j]
}

// worlds are small, so that all of them are explored in seconds: what may happen in
// one is what its rules are about.
var worlds = map[string]world{
	"one pool":              {dispatchers: 2, first: 2, sweeps: make([]sweepKind, 2), engineRetries: true, late: true},
	"late claims":           {dispatchers: 2, first: 1, sweeps: make([]sweepKind, 1), lateClaims: true, retries: true},
	"by hand":               {dispatchers: 2, first: 2, sweeps: make([]sweepKind, 1), byHand: true, retries: true},
	"retried":               {dispatchers: 2, first: 1, sweeps: make([]sweepKind, 1), retries: true, getsStuck: true},
	"retried, hung":         {dispatchers: 2, first: 2, sweeps: make([]sweepKind, 1), retries: true, hangs: true},
	"put back":              {dispatchers: 2, first: 1, sweeps: make([]sweepKind, 1), evicts: true, getsStuck: true, cancels: true},
	"suspended":             {dispatchers: 2, first: 1, sweeps: make([]sweepKind, 1), suspends: true, hangs: true, cancels: true},
	"short TTL":             {dispatchers: 2, first: 2, sweeps: make([]sweepKind, 2), ttl: true},
	"cancelled":             {dispatchers: 2, first: 2, sweeps: make([]sweepKind, 1), cancels: true, hangs: true, engineRetries: true},
	"deleted":               {dispatchers: 1, first: 1, sweeps: make([]sweepKind, 2), cancels: true, hangs: true, getsStuck: true, deletes: true, byHand: true},
	"two clusters":          {dispatchers: 2, first: 2, cluster: [2]int8{0, 1}, sweeps: []sweepKind{{}, {cluster: 1}}, cancels: true},
	"two clusters, retried": {dispatchers: 2, first: 1, cluster: [2]int8{0, 1}, sweeps: []sweepKind{{}, {cluster: 1}}, retries: true},
	"namespaced":            {dispatchers: 2, first: 1, sweeps: []sweepKind{{partial: true}, {partial: true}}, retries: true},
	"second server":         {dispatchers: 1, first: 1, sweeps: []sweepKind{{}, {otherServer: true}}, cancels: true},
	"second pool":           {dispatchers: 2, first: 1, sweeps: []sweepKind{{}, {pool: 1}}, retries: true},
	"moved":                 {dispatchers: 2, first: 2, poolOf: [2]int8{0, 1}, sweeps: []sweepKind{{}, {pool: 1}}, moves: true, retries: true},
	"moved, cancelled":      {dispatchers: 1, first: 1, sweeps: []sweepKind{{}, {pool: 1}}, moves: true, cancels: true, hangs: true, getsStuck: true},
}

// mutants name each rule, a world that needs it, and what goes wrong without it.
var mutants = map[string]struct {
	world string
	mutant
	want fault
}{
	"random Job names":                               {"one pool", mutant{randomNames: true}, twoActive},
	"the Job's place is rendered anew":               {"one pool", mutant{rendersAnew: true}, crashedHealthy},
	"no cluster in the claim":                        {"two clusters", mutant{noCluster: true}, crashedHealthy},
	"no stale-claim check":                           {"one pool", mutant{noStaleCheck: true}, twoActive},
	"a claim beside an earlier Job":                  {"retried", mutant{noFormerCheck: true}, twoActive},
	"an earlier Job of another pool is overlooked":   {"moved", mutant{earlierOfPoolOnly: true}, twoActive},
	"a claim is held by its transition id alone":     {"late claims", mutant{stateIDIgnored: true}, crashedHealthy},
	"no read after an unknown outcome":               {"short TTL", mutant{noReadAfterUnknown: true}, twoMade},
	"no read after a refusal":                        {"by hand", mutant{noReadAfterRefusal: true}, twoActive},
	"un-claim after an unknown outcome":              {"one pool", mutant{unclaimUnknown: true}, unclaimedHealthy},
	"a non-owner un-claims":                          {"one pool", mutant{othersUnclaim: true}, unclaimedHealthy},
	"un-claim past the orphan grace":                 {"one pool", mutant{noMargin: true}, unclaimedHealthy},
	"an un-claim is repeated without a read":         {"one pool", mutant{blindUnclaim: true}, unclaimedHealthy},
	"CRASHED is repeated without a read":             {"retried", mutant{blindCrash: true}, crashedHealthy},
	"proposals without a transition id":              {"one pool", mutant{noOwnID: true}, untold},
	"no work pool UUID on Jobs":                      {"second server", mutant{noPoolID: true}, deletedHealthy},
	"a run not in the list is deleted":               {"second pool", mutant{noReadByID: true}, deletedHealthy},
	"judging a run by any Job":                       {"second pool", mutant{anyJob: true}, crashedHealthy},
	"only a whole list is evidence":                  {"namespaced", mutant{wholeListNeeded: true}, isStuck},
	"absence from a list is evidence":                {"namespaced", mutant{absenceByList: true}, crashedHealthy},
	"no second look at the Job":                      {"retried", mutant{noSecondLookAtJob: true}, crashedHealthy},
	"no second look at the run":                      {"namespaced", mutant{noSecondLookAtRun: true}, crashedHealthy},
	"an earlier Job does not hold back the creation": {"by hand", mutant{ignoresOther: create}, twoActive},
	"an earlier Job does not hold back CRASHED":      {"one pool", mutant{ignoresOther: crash}, crashedHealthy},
	"an earlier Job does not hold back CANCELLED":    {"cancelled", mutant{ignoresOther: cancel}, cancelledHealthy},
	"a stale claim is judged by its Job":             {"one pool", mutant{jobBeforeStale: true}, crashedHealthy},
	"a claim that was granted twice is trusted":      {"late claims", mutant{grantedTwiceIgnored: true}, crashedHealthy},
	"a claim over an engine's own retry is trusted":  {"one pool", mutant{retryTypeIgnored: true}, twoMade},
	"orphans get no Job":                             {"one pool", mutant{noOrphans: true}, isStuck},
	"a sweep un-claims":                              {"one pool", mutant{sweepUnclaims: true}, twoActive},
	"the foreign grace counts for Slipway's claims":  {"two clusters", mutant{foreignGraceForAll: true}, unclaimedHealthy},
	"an engine's own retry is CRASHED":               {"one pool", mutant{crashesOwnRetry: true}, crashedHealthy},
	"no grace for CANCELLING":                        {"cancelled", mutant{noCancelGrace: true}, cutOff},
	"no grace after the end":                         {"deleted", mutant{noEndGrace: true}, cutOff},
	"a started pod of a CRASHED run is deleted":      {"by hand", mutant{deletesCrashed: true}, resurrected},
	"background deletion":                            {"by hand", mutant{background: true}, twoActive},
	"no leftover beside a retry":                     {"retried, hung", mutant{noLeftoverOnRetry: true}, isStuck},
	"a stuck Job beside a retry stays":               {"retried", mutant{noLeftoverOnRetry: true, noStartLimitOnScheduled: true}, isStuck},
	"a leftover beside a claim stays":                {"retried, hung", mutant{pendingLeftoverStays: true}, isStuck},
	"no start limit for SCHEDULED":                   {"put back", mutant{noStartLimitOnScheduled: true}, isStuck},
	"Suspended is no end of a claim":                 {"suspended", mutant{suspendedIsNoEnd: true}, isStuck},
}
