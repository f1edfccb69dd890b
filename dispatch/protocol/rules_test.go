package protocol

import "slices"

// mutant leaves rules of the protocol out.
type mutant struct {
	// names and claims
	randomNames, rendersAnew, noCluster, noStaleCheck, noFormerCheck, earlierOfPoolOnly, stateIDIgnored bool
	// the owner
	noReadAfterUnknown, noReadAfterRefusal, unclaimUnknown, othersUnclaim, noMargin bool
	// proposals
	blindUnclaim, blindCrash, noOwnID bool
	// what a sweep takes for evidence
	noPoolID, noReadByID, anyJob, wholeListNeeded, absenceByList, noSecondLookAtJob, noSecondLookAtRun bool
	ignoresOther                                                                                       action
	jobBeforeStale, grantedTwiceIgnored, retryTypeIgnored                                              bool
	// what it does
	noOrphans, sweepUnclaims, foreignGraceForAll, crashesOwnRetry                      bool
	noCancelGrace, noEndGrace, deletesCrashed, background                              bool
	noLeftoverOnRetry, pendingLeftoverStays, noStartLimitOnScheduled, suspendedIsNoEnd bool
}

// fault is what must never be.
type fault int8

const (
	none fault = iota
	twoActive
	twoMade
	ranTwice
	crashedHealthy
	cancelledHealthy
	unclaimedHealthy
	deletedHealthy
	cutOff
	resurrected
	untold
	isStuck
	tooMany
)

func (f fault) String() string {
	return [...]string{"nothing goes wrong", "two Jobs of one run are active", "two Jobs are made for one attempt", "the flow ran twice in one attempt", "a healthy run is made CRASHED",
		"a run is made CANCELLED while its engine is at work", "the claim of a healthy run is given back", "the Job of a healthy run is deleted",
		"an engine is cut off while it ends its run", "a run that was over is active again", "an effect is not reported", "the run is stuck", "too many states"}[f]
}

func (m *model) fail(f fault) {
	if m.fault == none {
		m.fault = f
	}
}

// setRun gives the run a new state.
func (m *model) setRun(p phase) {
	m.run, m.settled = p, false
	for i := range m.d {
		m.d[i].own = false
	}
	for k := range m.sweeps {
		m.sweeps[k].own = false
	}
	if p.terminal() || p == paused {
		m.ended |= m.claimed
	}
}

// schedule makes the run SCHEDULED for another attempt, with another due time.
func (m *model) schedule() {
	m.setRun(scheduled)
	m.left, m.made = 1, 0
	m.makeStale()
}

func (m *model) makeStale() {
	for i := range m.d {
		if m.d[i].at == claims || m.d[i].at == claimsAgain {
			m.d[i].stale = true
		}
	}
}

// makeJob is the API server's side of a creation: a name is given once.
func (m *model) makeJob(cluster, name, pool int8, u mutant) {
	if u.randomNames && m.jobs[cluster][name] != absent {
		name = otherName
	}
	if m.jobs[cluster][name] != absent {
		return
	}
	m.jobs[cluster][name] = waiting
	m.made++
	m.jobPool = m.jobPool&^(1<<name) | pool<<name
}

// deleteJob is a foreground deletion: the Job stays until its pod has ended. The
// pod's SIGTERM handler puts the run back, unless that is over; CRASHED does not
// count as over.
func (m *model) deleteJob(cluster, name int8, u mutant) {
	job := &m.jobs[cluster][name]
	leftover := m.ended>>name&1 == 1
	switch {
	case !m.settled && (*job == ending || *job == atWork && m.run == cancelling):
		m.fail(cutOff)
	case *job == atWork && m.run == crashed:
		m.fail(resurrected)
	case (*job == waiting || *job == atWork) && (m.held(name, mutant{}) && m.timed || m.run == running || m.run == awaitingRetry || m.run.polled() && !leftover):
		m.fail(deletedHealthy)
	case *job == atWork && (m.run.polled() || m.run == pending):
		m.schedule()
	}
	switch {
	case !job.active() || *job == deleting:
	case u.background && job.started():
		*job = podLeft
	default:
		*job = deleting
	}
}

// healthy: a Job of the run is on its way, or its engine works.
func (m model) healthy() bool {
	return m.atWork() || slices.Contains(m.jobs[0][:], waiting) || slices.Contains(m.jobs[1][:], waiting)
}

func (m model) atWork() bool {
	return slices.Contains(m.jobs[0][:], atWork) || slices.Contains(m.jobs[1][:], atWork)
}

// proposed is the Prefect server's side of a proposal that is not a claim: hardly any
// is refused (live on 2.20 and 3.8). It reports whether it was accepted.
func (m *model) proposed(act action) bool {
	if m.run == deleted || m.run == cancelling && act != cancel || m.run.terminal() && act == crash {
		return false
	}
	healthy := m.healthy() || m.run.polled()
	switch act {
	case unclaim:
		if m.run.terminal() {
			m.fail(resurrected)
		}
		if m.healthy() {
			m.fail(unclaimedHealthy)
		}
		m.setRun(scheduled)
	case crash:
		if healthy || m.run == pending && (!m.timed || m.twice) && m.before != crashed {
			m.fail(crashedHealthy)
		}
		m.setRun(crashed)
	case cancel:
		if m.atWork() || m.run != cancelling && m.run != cancelled {
			m.fail(cancelledHealthy)
		}
		m.setRun(cancelled)
	case putBack:
		if m.run.terminal() && !m.before.terminal() {
			m.fail(resurrected)
		}
		m.setRun(m.before)
	}
	return true
}

// rests: nothing more has to be done for the run.
func (m model) rests() bool {
	for _, jobs := range m.jobs {
		for _, job := range jobs {
			mayStay := m.run == paused || m.run == crashed && job.started()
			if job.active() && !mayStay {
				return false
			}
		}
	}
	return m.run.terminal() || m.run == deleted || m.run == paused || m.run.polled()
}

// choice is an action and the claim whose Job it is about.
type choice struct {
	act    action
	target int8
}

// decide is what a sweep does about the run, by what both servers say now.
func (s *stepper) decide(kind sweepKind, w sweeper) []choice {
	m := s.m
	sees := false // the list of unfinished Jobs of its work pool's UUID has one of the run
	var found []choice
	for name, job := range m.jobs[kind.cluster] {
		mine := m.jobPool>>name&1 == kind.pool && !kind.otherServer
		sees = sees || mine && job.active()
		unknown := kind.otherServer && s.u.noPoolID || mine && s.u.noReadByID
		if job.active() && job != deleting && (unknown || mine && s.leftover(int8(name), job)) {
			found = append(found, choice{deleteJob, int8(name)})
		}
	}
	if kind.otherServer || m.pool != kind.pool && !sees && !s.u.anyJob {
		return found
	}
	if act := s.judge(kind, w); act != leave {
		found = append(found, choice{act, m.claim})
	}
	return found
}

// leftover: the Job serves an attempt that is over, or one that is being cancelled.
func (s *stepper) leftover(name int8, job jobPhase) bool {
	m := s.m
	superseded := m.ended>>name&1 == 1
	if s.u.suspendedIsNoEnd && m.used.suspended {
		superseded = false
	}
	switch {
	case m.run == cancelling:
		return !job.started() || m.settled || s.u.noCancelGrace
	case m.run == crashed:
		return m.settled && (!job.started() || s.u.deletesCrashed)
	case m.run.terminal(), m.run == deleted:
		return m.settled || s.u.noEndGrace
	case m.run.polled() && job == stuck && !s.u.noStartLimitOnScheduled:
		return true
	case m.run.polled():
		return superseded && m.settled && !s.u.noLeftoverOnRetry
	case m.run == pending && name != m.claim && !s.stale():
		return superseded && (!job.started() || m.overdue) && !s.u.pendingLeftoverStays
	}
	return false
}

// judge looks at the Job of the run's current claim.
func (s *stepper) judge(kind sweepKind, w sweeper) action {
	m := s.m
	if m.claim == 0 {
		return leave
	}
	if s.w.clusterOf(m.claim) != kind.cluster && !s.u.noCluster {
		if m.run == pending && m.overdue && s.u.foreignGraceForAll {
			return unclaim
		}
		return leave
	}
	job := m.jobs[kind.cluster][m.claim]
	if s.u.anyJob && slices.Contains(m.jobs[kind.cluster][:], finished) && (m.run == pending || m.run == running) {
		return crash
	}
	switch {
	case s.u.absenceByList && kind.partial, s.u.rendersAnew && m.pid != m.claim:
		job = absent
	case w.at == listed:
		job = w.seen
	}
	if s.u.wholeListNeeded && kind.partial && m.pid != m.claim && (m.run != pending || job != absent) {
		return leave
	}
	other := m.earlierActive(kind.cluster, m.claim, kind.pool, s.u)
	holds := func(act action) bool { return other && s.u.ignoresOther != act }
	switch m.run {
	case pending:
		return s.judgePending(job, holds)
	case running, awaitingRetry:
		ownRetry := m.run == awaitingRetry && s.u.crashesOwnRetry
		if holds(crash) || job.active() && !ownRetry {
			return leave
		}
		return crash
	case cancelling:
		if !holds(cancel) && !job.active() {
			return cancel
		}
	}
	return leave
}

// stale: the claim was granted on a page that was out of date, or its request has
// arrived again. It gets no Job.
func (s *stepper) stale() bool {
	m := s.m
	return !m.timed || m.before == awaitingRetry && !s.u.retryTypeIgnored || m.twice && !s.u.grantedTwiceIgnored
}

// judgePending: holds tells whether an earlier Job that is active holds an action back.
func (s *stepper) judgePending(job jobPhase, holds func(action) bool) action {
	m := s.m
	stale := s.stale()
	if s.u.jobBeforeStale && job != absent {
		stale = false
	}
	switch {
	case stale && m.overdue:
		return putBack
	case stale, job.active() && job != stuck:
		return leave
	case job != absent: // stuck longer than its start limit, or ended
		return crash
	case m.pid == m.claim && !holds(crash):
		return crash
	case m.pid == m.claim, !m.overdue, s.u.noOrphans, holds(create):
		return leave
	case s.u.sweepUnclaims:
		return unclaim
	}
	return create
}
