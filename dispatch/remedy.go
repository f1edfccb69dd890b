package dispatch

import (
	"fmt"
	"strings"
	"time"

	"slipway/kube"
	"slipway/prefect"
)

// Remedy is what the sweep does about a flow run or a Job.
type Remedy string

const (
	// LeaveAlone: nothing is wrong, or nothing may be done.
	LeaveAlone Remedy = "none"
	// Tell: its pod does not start, and time may mend that.
	Tell Remedy = "report"
	// CreateJob: the claim's Job was never made; make it, under the same name.
	CreateJob Remedy = "create"
	// PutBack: a claim on a page out of date; propose the state that it replaced.
	PutBack Remedy = "put back"
	// GiveBack: somebody else's claim that nobody serves; un-claim it.
	GiveBack Remedy = "un-claim"
	// Crash: the run will never end by itself.
	Crash Remedy = "crash"
	// DeleteJob: the Job serves a run that is over or being cancelled.
	DeleteJob Remedy = "delete Job"
	// Cancel: nothing of the run is left; CANCELLING becomes CANCELLED.
	Cancel Remedy = "cancel"
)

// mends tells whether a remedy has an effect beside a line in a log.
func (r Remedy) mends() bool { return r != LeaveAlone && r != Tell }

// whose tells who made the claim that a run is under.
type whose int

const (
	nobodys   whose = iota // no claim is known
	ours                   // its tag verifies for this cluster
	elsewhere              // a dispatcher's of another cluster, a worker's, or one without an id
)

// Graces are the times that the sweep waits before it acts.
type Graces struct {
	Orphan  time.Duration // for the owner of a claim without a Job (SLIPWAY_ORPHAN_GRACE)
	Foreign time.Duration // for a foreign one; 0: never (SLIPWAY_FOREIGN_ORPHAN_GRACE)
	Settle  time.Duration // for an engine to report after its Job ended, and for leftovers
	Claim   time.Duration // how long an owner may still be making the Job (SLIPWAY_DEADLINE)

	// How long a pod may be kept from starting, by category or its part before
	// the dot; without one, for ever (SLIPWAY_START_LIMITS).
	Stuck map[string]time.Duration
}

// suspect is one flow run with all that decides about it, or a Job without a run.
type suspect struct {
	run   *prefect.FlowRun // nil: deleted
	claim *prefect.State   // the newest one named exactly Pending; nil: none is known
	whose whose
	job   *kube.JobStatus // of the current claim; nil: not in the list
	other bool            // another Job of the run is active, or has succeeded a moment ago
	gone  bool            // the claim's Job has been there, and is not any more, by two answers
	sure  bool            // the list of Jobs is whole where the run's Job would be

	stuck    *kube.Diagnosis // what keeps the claim's pod from starting; nil: nothing
	stuckFor time.Duration   // since its Job was created
}

// remedy decides, from one picture of both servers, without asking anybody.
func (s suspect) remedy(now time.Time, g Graces) (Remedy, string) {
	if !s.sure {
		return LeaveAlone, "the list of Jobs is not whole, so nothing is certain"
	}
	if s.run == nil {
		return s.leftover(now, g, "its flow run is deleted")
	}
	switch s.run.StateType {
	case "PENDING":
		return s.pending(now, g)
	case "RUNNING", "SCHEDULED":
		return s.started(now, g)
	case "CANCELLING":
		return s.cancelling(now, g)
	case "COMPLETED", "FAILED", "CRASHED", "CANCELLED":
		return s.leftover(now, g, "its flow run is "+s.run.StateType)
	}
	return LeaveAlone, "the run is " + s.run.StateType
}

func (s suspect) age(now time.Time) time.Duration {
	if s.claim == nil {
		return 0
	}
	return now.Sub(s.claim.Timestamp)
}

func (s suspect) pending(now time.Time, g Graces) (Remedy, string) {
	age := s.age(now).Round(time.Second)
	switch {
	case s.whose != ours && s.job == nil && !s.other && g.Foreign > 0 && s.age(now) > g.Foreign:
		return GiveBack, fmt.Sprintf("claimed %s ago by somebody else, and there is no Job", age)
	case s.whose != ours:
		return LeaveAlone, fmt.Sprintf("claimed %s ago by somebody else", age)
	case s.stuck != nil && s.job != nil && !s.job.Complete && !s.job.Failed:
		return s.unstarted(g)
	case s.job != nil || s.gone:
		return s.started(now, g)
	case s.age(now) <= g.Orphan:
		return LeaveAlone, fmt.Sprintf("claimed %s ago; its owner has %s to make the Job", age, g.Orphan)
	case s.claim.Details.ScheduledTime == nil:
		return PutBack, "claimed on a page that was out of date"
	}
	return CreateJob, fmt.Sprintf("claimed %s ago, and its Job was never made", age)
}

// unstarted is a run whose pod is kept from starting. Its Job goes after it is
// CRASHED, as one whose run is over.
func (s suspect) unstarted(g Graces) (Remedy, string) {
	category := string(s.stuck.Category)
	limit, given := g.Stuck[category]
	if !given {
		group, _, _ := strings.Cut(category, ".")
		limit, given = g.Stuck[group]
	}
	why := fmt.Sprintf("its pod does not start, for %s: %s", s.stuckFor.Round(time.Second), s.stuck)
	if given && s.stuckFor > limit && !s.other {
		return Crash, why
	}
	return Tell, why
}

// started is a run whose Job exists or has existed.
func (s suspect) started(now time.Time, g Graces) (Remedy, string) {
	switch {
	case s.whose != ours:
		return LeaveAlone, "claimed by somebody else"
	case s.other:
		return LeaveAlone, "another Job of the run is active or has succeeded"
	case s.gone && s.run.StateType == "PENDING":
		return Crash, "its Job was deleted before it ran"
	case s.gone:
		return Crash, "its Job was deleted while it ran"
	case s.job == nil:
		return LeaveAlone, "its Job is not in the list, and no pid says that it was made"
	case s.run.StateType == "SCHEDULED" && !s.retryMissed(now, g):
		return LeaveAlone, "its engine will try again"
	case s.job.Failed:
		return Crash, "its Job failed"
	case s.job.Complete && now.Sub(s.job.FinishedAt) <= g.Settle:
		return LeaveAlone, "its Job has ended a moment ago"
	case s.job.Complete:
		return Crash, "its Job ended and the run did not"
	}
	return LeaveAlone, "its Job is active"
}

// retryMissed: a run that its engine means to try again is SCHEDULED, and no poll
// returns it; past its time nobody but its own process will start it.
func (s suspect) retryMissed(now time.Time, g Graces) bool {
	at := s.run.NextScheduledStartTime
	return at != nil && now.Sub(*at) > g.Settle
}

func (s suspect) cancelling(now time.Time, g Graces) (Remedy, string) {
	switch {
	case s.whose == elsewhere:
		return LeaveAlone, "claimed by somebody else, who cancels it"
	case s.job != nil && s.job.Deleting:
		return LeaveAlone, "its Job is being deleted"
	case s.job != nil && !s.job.Complete && !s.job.Failed:
		return DeleteJob, "the run is being cancelled"
	case s.other:
		return LeaveAlone, "another Job of the run is active or has succeeded"
	case s.job == nil && !s.gone && s.age(now) <= max(g.Claim, g.Orphan):
		return LeaveAlone, "its owner may still be making the Job"
	}
	return Cancel, "nothing of the run is left"
}

// leftover is a Job that nobody waits for.
func (s suspect) leftover(now time.Time, g Graces, why string) (Remedy, string) {
	switch {
	case s.job == nil || s.job.Complete || s.job.Failed:
		return LeaveAlone, why
	case s.job.Deleting:
		return LeaveAlone, why + ", and its Job is being deleted"
	case s.run != nil && s.run.State != nil && now.Sub(s.run.State.Timestamp) <= g.Settle:
		return LeaveAlone, why + " since a moment; its Job may be ending"
	case s.run == nil && now.Sub(s.job.Created) <= g.Settle:
		return LeaveAlone, why + ", and its Job is new"
	}
	return DeleteJob, why
}
