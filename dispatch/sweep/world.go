// Package sweep repairs what dispatchers, workers, pods and nodes left behind:
//
//	list ─▶ look ─▶ World ─▶ Decide ─▶ []Decision ─▶ apply
//
// Two lists, of the work pool's unfinished Jobs and of its active runs, say which runs
// need a look. A look reads one run and its Jobs by their names. Decide is pure.
package sweep

import (
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/kube"
)

// Owner tells who made the claim that a run is under.
type Owner int

const (
	Nobody       Owner = iota // no claim is known
	Ours                      // Slipway's, of this cluster
	OtherCluster              // Slipway's, of another cluster
	Foreign                   // a Python worker's, or one without an id
)

// String names an owner for a sentence that says who claimed a run.
func (o Owner) String() string {
	switch o {
	case Ours:
		return "Slipway in this cluster"
	case OtherCluster:
		return "Slipway in another cluster"
	case Foreign:
		return "somebody else: a Python worker, or a client without a transition id"
	}
	return "nobody"
}

// JobState is what was learned of a Job.
type JobState int

const (
	Unseen   JobState = iota // nothing: it could not be read, or nobody knows where it would be
	Absent                   // it is not there, by a read of its name, nor is a live pod of it
	Active                   // it has not finished
	Ending                   // it is being deleted, or gone while a pod of it lives
	Complete                 // it succeeded
	Failed                   // for good: no pod will follow
)

// Live tells whether a pod of the Job may be at work.
func (s JobState) Live() bool { return s == Active || s == Ending }

// Job is a Job of a run. Times are of the Prefect server's clock.
type Job struct {
	Place      claim.Place
	UID        string
	ClaimID    string // transition id; "": a Python worker's
	State      JobState
	Reason     string // of the failure, or why it is Unseen
	Created    time.Time
	FinishedAt time.Time
	OfRun      bool // it bears the run's id
	OfPool     bool // and the UUID of this work pool
	Superseded bool // the run has been terminal or suspended since its claim
	NotStarted bool // no container of a pod that it has now has ever run
	Refused    bool // of one Unseen: Slipway has no rights there, or the namespace is gone
	PodLives   bool // of a Job that failed: a pod of it is still there
	Podless    bool // it has no pod, and has had none
}

func (j *Job) finished() bool { return j.State == Complete || j.State == Failed }

// World is all that decides about one flow run.
type World struct {
	RunID       string
	Name        string
	State       string    // type of the run's state; "DELETED": the run is gone
	Since       time.Time // of that state
	EngineRetry bool      // it waits for its own engine, which tries it again in the pod that it has
	RetryAt     time.Time // when
	Started     bool      // it has been RUNNING
	OfPool      bool      // it belongs to this work pool

	// Elsewhere is when something else than a claim's Job started it, after the attempt of
	// its newest claim was over: prefect flow-run execute on somebody's machine, for one.
	Elsewhere time.Time

	Owner     Owner
	Adopted   bool      // Ours by adoption: a Python worker, which is gone, has made the claim
	ClaimID   string    // of the newest state named exactly Pending
	ClaimedAt time.Time // zero: no claim is known
	HasDue    bool      // the claim was made from SCHEDULED
	SubState  bool      // an observer has written of the run's pod since: it had one
	Twice     bool      // the claim was granted twice: the run has ended since the first time

	Job      Job         // of the current claim
	Others   []Job       // unfinished ones of earlier claims
	Reported bool        // the run's infrastructure_pid names the claim's Job
	PID      claim.Place // which Job it names

	Stuck *kube.Diagnosis // what keeps the claim's pod from starting; nil: nothing
}

// othersLive tells whether a Job of an earlier claim may be at work.
func (w *World) othersLive() bool {
	for _, job := range w.Others {
		if job.State.Live() {
			return true
		}
	}
	return false
}

// startedElsewhere tells whether no Job in hand can be the one that executes the run.
func (w *World) startedElsewhere() bool {
	return !w.Elsewhere.IsZero() && !w.Job.State.Live() && !w.Job.FinishedAt.After(w.Elsewhere)
}

// jobs are all that are in hand.
func (w *World) jobs() []Job { return append([]Job{w.Job}, w.Others...) }

// Graces are the times that a sweep waits before it acts.
type Graces struct {
	Orphan  time.Duration // for the owner of a claim without a Job (SLIPWAY_ORPHAN_GRACE)
	Foreign time.Duration // for a claim that is not Slipway's; 0: never (SLIPWAY_FOREIGN_ORPHAN_GRACE)
	Settle  time.Duration // for engines to report, to cancel, and to end (SLIPWAY_SETTLE_GRACE)
	Claim   time.Duration // how long an owner may still be making the Job (SLIPWAY_DEADLINE)

	// How long a pod may be kept from starting, by category or its part before
	// the dot; without one, for ever (SLIPWAY_START_LIMITS).
	Limits map[string]time.Duration
}

// Decision is what is to be done about a run or one of its Jobs.
type Decision struct {
	Action report.Action
	Reason string
	Job    Job // to be deleted, or that decided
}
