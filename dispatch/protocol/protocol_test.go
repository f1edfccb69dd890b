package protocol

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// model is one state of the claim protocol: one flow run, what the two servers hold
// of it, and how far each dispatcher and each sweep is. explore visits all states
// that any order of their steps leads to. The Prefect server's rules are those of
// the contract tests; they hold on 2.20 and 3.8.
//
// Prefect has no compare-and-set, so some things are assumed about time:
//   - Nothing else changes the run between a read and the proposal that follows at once.
//   - Between a look and the creation or deletion of a Job that follows at once (a
//     gap), and while a creation is in flight, the user sets no state by hand and asks for no
//     other attempt (cancelling is possible), and no Job of that name ends and is removed.
//     No pod starts, and no engine ends its run, while its Job is about to be deleted.
//   - A pod that cannot start does not become able to in a gap.
//   - An engine that is healthy ends within the settle grace, and that is not longer
//     than the orphan grace. The owner writes the pid within the orphan grace, or never.
//   - Where there are two clusters, which do not see each other's Jobs, the user asks for
//     another attempt only when no Job of the run is active.
//
// The repeat of a proposal, of a claim and of a creation may come at any time later.
type model struct {
	run     phase
	claim   int8  // the dispatcher whose claim is the newest; 0: none
	timed   bool  // the claim has a scheduled time: it came from SCHEDULED
	twice   bool  // the claim was granted twice: its request arrived again
	before  phase // the state that the claim replaced
	overdue bool  // the claim is older than the orphan grace
	settled bool  // the run's state is older than the settle grace
	pid     int8  // the claim whose Job infrastructure_pid names
	left    int8  // executions that the attempts so far allow
	made    int8  // Jobs of this attempt; but for those that were gone before they ran
	used    chances
	claimed int8           // bits: the claims that were ever granted
	ended   int8           // bits: the claims that are older than a terminal or suspended state
	pool    int8           // the run's work pool
	jobPool int8           // bits: the Jobs that bear the UUID of work pool 1
	jobs    [2][4]jobPhase // by cluster and name
	d       [2]dispatcher
	sweeps  [2]sweeper
	fault   fault
}

// chances are things that happen once at most in one history.
type chances struct{ retried, engineRetried, evicted, suspended, moved bool }

// phase is a flow run's state. COMPLETED stands for FAILED as well.
type phase int8

const (
	scheduled phase = iota
	late
	awaitingRetry // SCHEDULED, of the engine's own retry: no poll returns it
	pending
	running
	paused // Suspended
	completed
	crashed
	cancelling
	cancelled
	deleted
)

func (p phase) terminal() bool { return p == completed || p == crashed || p == cancelled }
func (p phase) polled() bool   { return p == scheduled || p == late }

// jobPhase is a Job with its pod.
type jobPhase int8

const (
	absent   jobPhase = iota // never made, or gone: a Get says the same
	waiting                  // its pod has not started yet
	stuck                    // its pod cannot start
	atWork                   // its engine executes the flow, waits for its own retry, or runs hooks
	ending                   // its engine has reported the run's end, and ends by itself
	hung                     // its pod has started and will never end by itself
	deleting                 // being deleted while its pod ends
	podLeft                  // mutants only: the Job is gone, and its pod is not yet
	finished
)

func (j jobPhase) active() bool  { return j >= waiting && j <= deleting }
func (j jobPhase) started() bool { return j == atWork || j == ending || j == hung }

// Names 1 and 2 are those of the claims' Jobs; 3 is a Job of the run with another name.
const otherName = 3

// world is one configuration: who takes part, and what may happen.
type world struct {
	dispatchers int
	first       int     // so many of them take part in the first attempt
	cluster     [2]int8 // of each dispatcher
	poolOf      [2]int8
	sweeps      []sweepKind

	ttl           bool // Jobs are removed once they are finished
	byHand        bool // the user sets COMPLETED or CRASHED
	retries       bool // the user asks for another attempt
	cancels       bool
	deletes       bool // the user deletes the run
	moves         bool // the user gives the run to another work pool
	suspends      bool // the flow suspends itself, and the user resumes it
	evicts        bool // the pod's SIGTERM handler puts the run back
	getsStuck     bool // pods may be unable to start
	hangs         bool // pods may never end
	engineRetries bool // the engine tries again by itself
	lateClaims    bool // a claim whose answer was lost arrives at any time later
	late          bool // the server renames SCHEDULED runs that are overdue
}

// sweepKind is where a sweep stands.
type sweepKind struct {
	cluster, pool        int8
	otherServer, partial bool // it does not know the run; its list of Jobs is not whole
}

func (w world) clusters() int {
	if slices.Max(w.cluster[:]) > 0 {
		return 2
	}
	return 1
}

// clusterOf is the cluster that a claim's transition id names.
func (w world) clusterOf(claim int8) int8 {
	if claim == 0 {
		return 0
	}
	return w.cluster[claim-1]
}

// stepper collects the states that follow one.
type stepper struct {
	m         model
	w         world
	u         mutant
	following []following
}

// following is a next state. Its step is sure if nothing has to go wrong for it, and
// nobody has to act by hand.
type following struct {
	m    model
	sure bool
}

func (s *stepper) sure(change func(*model))   { s.step(true, change) }
func (s *stepper) chance(change func(*model)) { s.step(false, change) }

func (s *stepper) step(sure bool, change func(*model)) {
	n := s.m
	change(&n)
	n.forget()
	if n != s.m {
		s.following = append(s.following, following{n, sure})
	}
}

// forget drops what nobody will ask for, so that fewer states differ.
func (m *model) forget() {
	active, named := 0, int8(0)
	for k := range m.jobs {
		for name, job := range m.jobs[k] {
			if job.active() || job == podLeft {
				active++
				named |= 1 << name
			}
		}
	}
	if active > 1 {
		m.fail(twoActive)
	}
	if m.made > 1 {
		m.fail(twoMade)
	}
	m.ended &= named
	m.jobPool &= named
	m.overdue = m.overdue && (m.run == pending || m.run == cancelling)
	if m.run != pending {
		m.before, m.timed, m.twice = scheduled, false, false
	}
}

// next lists all states that one step leads to.
func (m model) next(w world, u mutant) []following {
	s := &stepper{m: m, w: w, u: u}
	for i := range w.dispatchers {
		s.dispatcher(int8(i))
	}
	for k := range w.sweeps {
		s.sweep(k)
	}
	for k := range w.clusters() {
		for name := int8(1); name <= otherName; name++ {
			s.pod(k, name)
		}
	}
	s.time()
	s.user()
	return s.following
}

// graph is what explore has visited.
type graph struct {
	states []model
	from   []int32   // the state that each was first reached from
	back   [][]int32 // the states that lead to each by a sure step
}

// maxStates keeps the test quick: a world that has more is to be made smaller.
const maxStates = 1_000_000

// explore visits every state that can be reached. It ends at the first fault, or
// looks for states from which no sure steps lead to rest.
func explore(w world, u mutant) (int, fault, string) {
	start := model{left: 1}
	g := graph{states: []model{start}, from: []int32{0}, back: [][]int32{nil}}
	index := map[model]int32{start: 0}
	for at := int32(0); int(at) < len(g.states); at++ {
		m := g.states[at]
		if m.fault != none {
			return len(g.states), m.fault, g.trace(at)
		}
		if len(g.states) > maxStates {
			return len(g.states), tooMany, ""
		}
		for _, f := range m.next(w, u) {
			to, seen := index[f.m]
			if !seen {
				to = int32(len(g.states))
				index[f.m] = to
				g.states, g.from, g.back = append(g.states, f.m), append(g.from, at), append(g.back, nil)
			}
			if f.sure {
				g.back[to] = append(g.back[to], at)
			}
		}
	}
	if at := g.stuck(); at >= 0 {
		return len(g.states), isStuck, g.trace(at)
	}
	return len(g.states), none, ""
}

// stuck finds the first state from which no sure steps lead to rest; -1: there is none.
func (g *graph) stuck() int32 {
	good := make([]bool, len(g.states))
	var queue []int32
	for i, m := range g.states {
		if m.rests() {
			good[i] = true
			queue = append(queue, int32(i))
		}
	}
	for len(queue) > 0 {
		at := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, from := range g.back[at] {
			if !good[from] {
				good[from] = true
				queue = append(queue, from)
			}
		}
	}
	return int32(slices.Index(good, false))
}

// trace tells how a state was reached.
func (g *graph) trace(at int32) string {
	var lines []string
	for ; ; at = g.from[at] {
		lines = append(lines, "\n  "+g.states[at].String())
		if at == 0 {
			slices.Reverse(lines)
			return strings.Join(lines, "")
		}
	}
}

// TestProtocol: in no world does any interleaving harm, double or strand a run.
func TestProtocol(t *testing.T) {
	for name, w := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			states, found, trace := explore(w, mutant{})
			if found != none {
				t.Errorf("%s%s", found, trace)
			}
			t.Logf("%-15s %8d states", name, states)
		})
	}
}

// TestProtocolNeedsEachRule: without any one of the rules something goes wrong, and
// it is what the rule is there to prevent.
func TestProtocolNeedsEachRule(t *testing.T) {
	for name, c := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, known := worlds[c.world]
			if !known {
				t.Fatalf("no world %q", c.world)
			}
			states, found, trace := explore(w, c.mutant)
			if found != c.want {
				t.Errorf("in %d states: %s, want %s", states, found, c.want)
			}
			t.Logf("%s: %d states: %s%s", name, states, found, trace)
		})
	}
}

// TestEveryRuleHasAMutant: no rule is left out of the table.
func TestEveryRuleHasAMutant(t *testing.T) {
	rules := reflect.TypeFor[mutant]()
	for i := range rules.NumField() {
		set := false
		for _, c := range mutants {
			set = set || !reflect.ValueOf(c.mutant).Field(i).IsZero()
		}
		if !set {
			t.Errorf("no mutant leaves out %s", rules.Field(i).Name)
		}
	}
}
