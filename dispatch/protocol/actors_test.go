package protocol

import "fmt"

// Where a dispatcher is.
const (
	polls        int8 = iota
	claims            // the poll returned the run, and no earlier Job is active
	claimsAgain       // the answer to its claim was lost
	creates           // it owns the run: gap before an attempt to create the Job
	createsAgain      // an attempt failed; it reads the run before the next
	proposes          // reads the run, and proposes at once
	repeats           // the answer to its proposal was lost
	reports           // the Job is made: writes the pid
	over
)

// dispatcher is one claim on the run and its owner.
type dispatcher struct {
	at       int8
	act      action // what it proposes
	stale    bool   // the run has been scheduled anew since the poll
	unsure   bool   // the effect of an attempt is not known
	inFlight bool   // a creation may still arrive
	claimed  bool   // its claim may arrive again
	own      bool   // the run's state is the one it proposed
}

func (d dispatcher) String() string {
	at := [...]string{"polls", "claims", "claimsAgain", "creates", "createsAgain", "proposes", "repeats", "reports", "over"}[d.at]
	return "{" + at + word(d.act != leave, d.act.String()) + word(d.stale, "stale") + word(d.unsure, "unsure") + word(d.inFlight, "in flight") + word(d.claimed, "claim in flight") + word(d.own, "own") + "}"
}

// action is what a sweep, or an owner, does.
type action int8

const (
	leave action = iota
	create
	crash
	cancel
	putBack
	unclaim
	deleteJob
)

func (a action) String() string {
	return [...]string{"leave", "create", "crash", "cancel", "put back", "un-claim", "delete"}[a]
}

// inGap: a request of it is under way that relies on what was just read.
func (d dispatcher) inGap() bool { return d.at == creates || d.inFlight }

func (s *stepper) dispatcher(i int8) {
	m, d, id := s.m, s.m.d[i], i+1
	if d.inFlight {
		s.sure(func(n *model) { n.d[i].inFlight = false; n.makeJob(s.w.cluster[i], id, s.w.poolOf[i], s.u) })
		s.sure(func(n *model) { n.d[i].inFlight = false })
	}
	if d.claimed {
		s.chance(func(n *model) { n.d[i].claimed = false; n.grant(id) })
		s.chance(func(n *model) { n.d[i].claimed = false })
	}
	if d.at != over && d.at != polls {
		s.chance(func(n *model) { n.d[i] = d.ends() }) // it dies
	}
	switch d.at {
	case polls:
		firstTry := int(i) < s.w.first || m.used.retried || m.used.suspended || m.used.evicted
		former := m.earlierActive(s.w.cluster[i], 0, s.w.poolOf[i], s.u) && !s.u.noFormerCheck
		if m.run.polled() && m.pool == s.w.poolOf[i] && firstTry && !former {
			s.sure(func(n *model) { n.d[i].at = claims })
		}
	case claims, claimsAgain:
		s.claim(i)
	case creates:
		s.attempt(i)
	case createsAgain:
		s.sure(func(n *model) {
			unread := s.u.noReadAfterUnknown && d.unsure || s.u.noReadAfterRefusal && !d.unsure
			n.d[i].at = creates
			if !unread && !m.held(id, s.u) {
				n.d[i] = d.ends()
			}
		})
	case proposes:
		s.propose(i)
	case repeats:
		s.repeat(i)
	case reports:
		s.sure(func(n *model) { n.pid, n.d[i] = id, d.ends() })
	}
}

// held: the run's state is the one that granted this claim, by its id.
func (m model) held(claim int8, u mutant) bool {
	return m.run == pending && m.claim == claim && (!m.twice || u.stateIDIgnored)
}

// earlierActive: a Job of the run is active in a cluster, beside that of a claim. It
// may bear the UUID of another work pool, if the run was moved.
func (m model) earlierActive(cluster, claim, pool int8, u mutant) bool {
	for name, job := range m.jobs[cluster] {
		if job.active() && int8(name) != claim && (m.jobPool>>name&1 == pool || !u.earlierOfPoolOnly) {
			return true
		}
	}
	return false
}

// ends: what it has sent may still arrive.
func (d dispatcher) ends() dispatcher {
	return dispatcher{at: over, inFlight: d.inFlight, claimed: d.claimed}
}

// grant is the Prefect server's side of a claim.
func (m *model) grant(id int8) bool {
	if !m.run.polled() && m.run != awaitingRetry && m.run != completed && m.run != crashed {
		return m.run == pending && m.claim == id // it recognises the repeat
	}
	m.before, m.timed, m.twice = m.run, !m.run.terminal(), m.claimed>>id&1 == 1
	m.claim, m.overdue = id, false
	m.setRun(pending)
	m.claimed |= 1 << id
	return true
}

// claim proposes PENDING; a repeat bears the same transition id.
func (s *stepper) claim(i int8) {
	d, id := s.m.d[i], i+1
	s.sure(func(n *model) {
		owns := n.grant(id)
		n.d[i] = dispatcher{at: creates, claimed: d.claimed}
		switch {
		case !owns:
			n.d[i] = d.ends()
			if s.u.othersUnclaim && n.run == pending {
				n.proposed(unclaim)
			}
		case !n.timed || n.twice || d.stale && !s.u.noStaleCheck:
			n.d[i].at, n.d[i].act = proposes, putBack
		}
	})
	if d.at == claims {
		s.chance(func(n *model) { n.grant(id); n.d[i].at = claimsAgain })
		s.chance(func(n *model) { n.d[i].at, n.d[i].claimed = claimsAgain, s.w.lateClaims })
	}
}

// attempt is one request to create the Job, and what follows from its answer.
func (s *stepper) attempt(i int8) {
	m, d, id := s.m, s.m.d[i], i+1
	s.sure(func(n *model) {
		n.makeJob(s.w.cluster[i], id, s.w.poolOf[i], s.u)
		n.d[i] = d.ends()
		n.d[i].at = reports
	})
	s.chance(func(n *model) { n.d[i].at, n.d[i].unsure, n.d[i].inFlight = createsAgain, true, true })
	s.chance(func(n *model) { n.d[i].at = createsAgain }) // refused for now
	if d.unsure && !s.u.unclaimUnknown || m.overdue && !s.u.noMargin || !m.held(id, s.u) {
		s.chance(func(n *model) { n.d[i] = d.ends() }) // it gives up
		return
	}
	for _, act := range []action{unclaim, crash} {
		s.chance(func(n *model) { n.d[i].at, n.d[i].act = proposes, act })
	}
}

// propose reads the run and proposes at once, if the claim is still held and no sweep
// may be making the Job. The repeat after a lost answer bears the same transition id.
func (s *stepper) propose(i int8) {
	m, d := s.m, s.m.d[i]
	if !m.held(i+1, s.u) || m.overdue && !s.u.noMargin {
		s.sure(func(n *model) { n.d[i] = d.ends() })
		return
	}
	s.sure(func(n *model) { n.proposed(d.act); n.d[i] = d.ends() })
	s.chance(func(n *model) { n.d[i].own = n.proposed(d.act); n.d[i].at = repeats })
	s.chance(func(n *model) { n.d[i].at = repeats })
}

// repeat reads the run first: it finds its own effect, or proposes again, or stops.
func (s *stepper) repeat(i int8) {
	d := s.m.d[i]
	s.sure(func(n *model) {
		n.d[i] = d.ends()
		switch {
		case s.u.blindUnclaim && d.act == unclaim, s.u.blindCrash && d.act == crash:
			n.repeated(d.act, d.own)
		case d.own && s.u.noOwnID:
			n.fail(untold)
		case !d.own:
			n.d[i] = dispatcher{at: proposes, act: d.act, inFlight: d.inFlight, claimed: d.claimed}
		}
	})
}

// repeated is a proposal that arrives again; the server recognises it only while
// the run's state is that of the first.
func (m *model) repeated(act action, own bool) {
	if !own {
		m.proposed(act)
	}
}

// sweeper is one sweep: it looks at the run and its Jobs, and acts.
type sweeper struct {
	at     int8
	act    action
	target int8     // the claim whose Job it is about
	own    bool     // the run's state is the one it proposed
	seen   jobPhase // of the list, where nobody looks again
}

const (
	idle          int8 = iota
	listed             // mutants only: it has looked, and does not look again
	acts               // gap before the request to the API server
	proposesAgain      // the answer to its proposal was lost
)

func (w sweeper) String() string {
	at := [...]string{"idle", "listed", "acts", "repeats"}[w.at]
	return fmt.Sprintf("{%s %s of %d%s}", at, w.act, w.target, word(w.own, "own"))
}

func (s *stepper) sweep(k int) {
	w, kind := s.m.sweeps[k], s.w.sweeps[k]
	switch w.at {
	case idle:
		for _, a := range s.decide(kind, w) {
			s.act(k, sweeper{act: a.act, target: a.target})
			if s.u.noSecondLookAtRun {
				s.chance(func(n *model) { n.sweeps[k] = sweeper{at: listed, act: a.act, target: a.target} })
			}
		}
		if s.u.noSecondLookAtJob && s.m.claim > 0 {
			s.chance(func(n *model) {
				n.sweeps[k] = sweeper{at: listed, target: s.m.claim, seen: s.m.jobs[kind.cluster][s.m.claim]}
			})
		}
	case listed:
		s.sure(func(n *model) { n.sweeps[k] = sweeper{} })
		if w.act != leave {
			s.act(k, w)
			return
		}
		for _, a := range s.decide(kind, w) {
			s.act(k, sweeper{act: a.act, target: a.target})
		}
	case acts:
		s.chance(func(n *model) { n.sweeps[k] = sweeper{} }) // it dies
		s.request(k)
	case proposesAgain:
		s.sure(func(n *model) {
			n.sweeps[k] = sweeper{}
			switch {
			case s.u.blindCrash:
				n.repeated(w.act, w.own)
			case w.own && s.u.noOwnID:
				n.fail(untold)
			}
		})
	}
}

// act begins a request to the API server, or proposes a state to Prefect at once.
func (s *stepper) act(k int, w sweeper) {
	if w.act == create || w.act == deleteJob {
		s.sure(func(n *model) { n.sweeps[k] = sweeper{at: acts, act: w.act, target: w.target} })
		return
	}
	s.sure(func(n *model) { n.proposed(w.act); n.sweeps[k] = sweeper{} })
	s.chance(func(n *model) {
		own := n.proposed(w.act)
		n.sweeps[k] = sweeper{at: proposesAgain, act: w.act, own: own}
	})
	s.chance(func(n *model) { n.sweeps[k] = sweeper{at: proposesAgain, act: w.act} })
}

// request arrives at the API server.
func (s *stepper) request(k int) {
	w, cluster, pool := s.m.sweeps[k], s.w.sweeps[k].cluster, s.w.sweeps[k].pool
	if w.act == deleteJob {
		s.sure(func(n *model) { n.deleteJob(cluster, w.target, s.u); n.sweeps[k] = sweeper{} })
		return
	}
	name := w.target
	if s.u.rendersAnew {
		name = otherName
	}
	s.sure(func(n *model) { n.makeJob(cluster, name, pool, s.u); n.pid = w.target; n.sweeps[k] = sweeper{} })
	s.chance(func(n *model) { n.makeJob(cluster, name, pool, s.u); n.sweeps[k] = sweeper{} }) // the pid is not written
}
