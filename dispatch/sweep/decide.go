package sweep

import (
	"fmt"
	"strings"
	"time"

	"slipway/dispatch/report"
)

// Decide says what is to be done about a run, from one picture of both servers and
// without asking anybody. There is at least one decision.
func Decide(w *World, now time.Time, g Graces) []Decision {
	switch w.State {
	case "PENDING":
		return pending(w, now, g)
	case "RUNNING":
		return started(w, now, g)
	case "SCHEDULED":
		if w.EngineRetry {
			return started(w, now, g)
		}
		return scheduled(w, now, g)
	case "CANCELLING":
		return cancelling(w, now, g)
	case "DELETED":
		return leftovers(w, now, g, "its flow run is deleted")
	case "COMPLETED", "FAILED", "CRASHED", "CANCELLED":
		return leftovers(w, now, g, "its flow run is "+w.State)
	}
	return leave(w, "the flow run is %s", w.State)
}

func one(w *World, action report.Action, reason string) []Decision {
	return []Decision{{Action: action, Reason: reason, Job: w.Job}}
}

func leave(w *World, format string, args ...any) []Decision {
	return one(w, report.LeaveAlone, fmt.Sprintf(format, args...))
}

// pending is a run that is claimed and has not started.
func pending(w *World, now time.Time, g Graces) []Decision {
	age := now.Sub(w.ClaimedAt)
	ago := age.Round(time.Second)
	switch {
	case w.Owner == Foreign && w.OfPool && w.Job.State == Absent && !w.othersLive() && g.Foreign > 0 && age > g.Foreign:
		return one(w, report.GiveBack, fmt.Sprintf("claimed %s ago by somebody else, and there is no Job", ago))
	case w.Owner != Ours:
		return leave(w, "claimed %s ago by %s", ago, w.Owner)
	case w.startedElsewhere():
		return leave(w, "something else than its Job has started it")
	case w.stale() && age <= g.Orphan:
		return leave(w, "claimed %s ago on a stale page; its owner has %s to put it back", ago, g.Orphan)
	case w.stale() && w.OfPool:
		return one(w, report.PutBack, "claimed on a stale page")
	case w.stale():
		return leave(w, "claimed on a stale page; the sweep of its work pool puts it back")
	case w.Job.State == Active && w.Stuck != nil:
		return unstarted(w, now, g)
	case w.Job.State == Unseen && w.Job.Refused && !w.Reported && !w.SubState:
		// To make it is safe unseen: the one that may be there has its name.
	case w.Job.State != Absent:
		return started(w, now, g)
	case w.Reported || w.SubState:
		return crashUnlessOthers(w, "its Job was deleted before it ran")
	}
	return unmade(w, age, g)
}

// unmade is a claim whose Job was never made, as far as can be seen.
func unmade(w *World, age time.Duration, g Graces) []Decision {
	ago := age.Round(time.Second)
	switch {
	case age <= g.Orphan:
		return leave(w, "claimed %s ago; its owner has %s to make the Job", ago, g.Orphan)
	case w.othersLive():
		// No pod of this claim runs that the end of an earlier one could disturb.
		return besideOthers(w, func(Job) bool { return true })
	case !w.OfPool:
		return leave(w, "its Job was never made; the sweep of its work pool makes it")
	}
	return one(w, report.CreateJob, fmt.Sprintf("claimed %s ago, and its Job was never made", ago))
}

// stale tells whether the claim replaced a state that no poll returns: a terminal one,
// from which the server copies no due time, or an engine's own retry; or whether its
// request arrived once more after the claim's attempt was over.
func (w *World) stale() bool { return !w.Adopted && (!w.HasDue || w.EngineRetry || w.Twice) }

// unstarted is a run whose pod is kept from starting. Its Job goes after it is
// CRASHED, as one whose run is over.
func unstarted(w *World, now time.Time, g Graces) []Decision {
	kept := now.Sub(w.stuckSince())
	why := fmt.Sprintf("its pod does not start, for %s: %s", kept.Round(time.Second), w.Stuck)
	limit, given := g.limit(string(w.Stuck.Category))
	if given && kept > limit {
		return crashUnlessOthers(w, why)
	}
	return append(one(w, report.Tell, why), missingPID(w, now, g)...)
}

// stuckSince is when the pod began to be kept from starting.
func (w *World) stuckSince() time.Time {
	if w.Stuck.Since.IsZero() {
		return w.Job.Created
	}
	return w.Stuck.Since
}

// limit is that of a diagnosis, or of the group before its dot.
func (g Graces) limit(category string) (time.Duration, bool) {
	if limit, given := g.Limits[category]; given {
		return limit, true
	}
	group, _, _ := strings.Cut(category, ".")
	limit, given := g.Limits[group]
	return limit, given
}

// started is a run whose Job exists or has existed.
func started(w *World, now time.Time, g Graces) []Decision {
	job := w.Job
	switch {
	case w.Owner == Nobody:
		return leave(w, "no claim of it is known")
	case w.Owner != Ours:
		return leave(w, "claimed by %s", w.Owner)
	case w.startedElsewhere():
		return leave(w, "something else than its Job has started it")
	case job.State == Unseen:
		return leave(w, "whether its Job is there is not known: %s", job.Reason)
	case job.State == Ending:
		return leave(w, "its Job is being deleted")
	case job.State == Active:
		return append(missingPID(w, now, g), leave(w, "its Job is active")...)[:1]
	case w.State == "SCHEDULED" && job.State != Absent && now.Sub(w.retryAt()) <= g.Settle:
		return leave(w, "its engine will try again")
	case job.State == Absent && w.State == "PENDING":
		return crashUnlessOthers(w, "its Job was deleted before it ran")
	case job.State == Absent:
		return crashUnlessOthers(w, "its Job was deleted while it ran")
	case job.State == Failed && job.PodLives && now.Sub(job.FinishedAt) <= g.Settle:
		return leave(w, "its Job failed a moment ago, and its pod is ending")
	case job.State == Failed:
		return crashUnlessOthers(w, "its Job failed")
	case now.Sub(job.FinishedAt) <= g.Settle:
		return leave(w, "its Job completed a moment ago")
	}
	return crashUnlessOthers(w, "its Job completed but the flow run never reached a terminal state")
}

// retryAt is when a run's engine tries it again.
func (w *World) retryAt() time.Time {
	if w.RetryAt.IsZero() {
		return w.Since
	}
	return w.RetryAt
}

// crashUnlessOthers: an active Job of an earlier claim may be the one that executes
// the run, under a claim that was made on a stale page since.
func crashUnlessOthers(w *World, why string) []Decision {
	if w.othersLive() {
		return besideOthers(w, func(job Job) bool { return job.NotStarted })
	}
	return one(w, report.Crash, why)
}

// besideOthers waits for the Jobs of earlier claims. Those of attempts that are over
// could be waited for without end: of them, the ones that may be are deleted.
func besideOthers(w *World, deletable func(Job) bool) []Decision {
	var all []Decision
	for _, job := range w.Others {
		if job.State == Active && job.OfPool && job.Superseded && deletable(job) {
			all = append(all, Decision{report.DeleteJob, "it is of an earlier attempt, which is over", job})
		}
	}
	if len(all) > 0 {
		return all
	}
	return leave(w, "another Job of the run is active")
}

// missingPID: the dispatcher died before it wrote where the Job is.
func missingPID(w *World, now time.Time, g Graces) []Decision {
	if w.Job.State != Active || w.Reported || now.Sub(w.Job.Created) <= g.Settle || w.Job.ClaimID == "" {
		return nil
	}
	return one(w, report.WritePID, "its infrastructure_pid does not name its Job")
}

// scheduled is a run that a poll returns: retried by a user, resumed, or put back by
// an engine that was told to end. No pass claims it while a Job of it is active.
func scheduled(w *World, now time.Time, g Graces) []Decision {
	var all []Decision
	for _, job := range w.jobs() {
		switch {
		case job.State != Active || !job.OfPool:
		case job.Superseded && now.Sub(w.Since) > g.Settle:
			all = append(all, Decision{report.DeleteJob, "it is of an earlier attempt, which is over", job})
		case w.Stuck != nil && job.UID == w.Job.UID && job.NotStarted:
			all = append(all, stuckAgain(w, now, g))
		}
	}
	if len(all) == 0 {
		return leave(w, "the poll returns it")
	}
	return all
}

// stuckAgain is a Job whose pod was replaced by one that does not start, after its
// engine has put the run back: without that Job the run starts anew.
func stuckAgain(w *World, now time.Time, g Graces) Decision {
	kept := now.Sub(w.stuckSince())
	why := fmt.Sprintf("its pod does not start, for %s: %s", kept.Round(time.Second), w.Stuck)
	if limit, given := g.limit(string(w.Stuck.Category)); given && kept > limit {
		return Decision{report.DeleteJob, why, w.Job}
	}
	return Decision{report.Tell, why, w.Job}
}

// cancelling is a run that somebody wants to end. Started, it is left to its engine
// for a while, which runs the flow's hooks.
func cancelling(w *World, now time.Time, g Graces) []Decision {
	if w.Owner == Foreign || w.Owner == OtherCluster {
		return leave(w, "claimed by %s, who cancels it", w.Owner)
	}
	var live []Decision
	for _, job := range w.jobs() {
		switch {
		case job.State == Ending:
			return leave(w, "its Job is being deleted")
		case job.State == Active && w.Started && now.Sub(w.Since) <= g.Settle:
			return leave(w, "its engine has %s to cancel it", g.Settle)
		case job.State == Active && !job.OfRun:
			return leave(w, "Job %s does not bear the flow run's id any more: delete it by hand", job.Place)
		case job.State == Active:
			live = append(live, Decision{report.DeleteJob, "the flow run is being cancelled", job})
		}
	}
	switch {
	case len(live) > 0:
		return live
	case w.startedElsewhere():
		return leave(w, "something else than its Job has started it, and cancels it")
	case w.Owner == Nobody && w.PID.Known():
		return leave(w, "its infrastructure_pid names a Job that is not Slipway's")
	case w.Owner == Ours && w.Job.State == Unseen:
		return leave(w, "whether its Job is there is not known: %s", w.Job.Reason)
	case w.Owner == Ours && w.Job.State == Absent && !w.Reported && now.Sub(w.ClaimedAt) <= max(g.Claim, g.Orphan):
		return leave(w, "its owner may still be making the Job")
	}
	return one(w, report.Cancel, "nothing of the flow run is left")
}

// leftovers are Jobs of a run that is over.
func leftovers(w *World, now time.Time, g Graces, why string) []Decision {
	var all []Decision
	for _, job := range w.jobs() {
		if job.State.Live() {
			all = append(all, leftover(w, job, now, g, why))
		}
	}
	if len(all) == 0 {
		return leave(w, "%s, and no Job of it is active", why)
	}
	return all
}

func leftover(w *World, job Job, now time.Time, g Graces, why string) Decision {
	keep := func(more string) Decision { return Decision{report.LeaveAlone, why + more, job} }
	switch {
	case job.State == Ending:
		return keep(", and its Job is being deleted")
	case !job.OfPool:
		return keep(", and its Job is not of this work pool")
	case w.State == "DELETED" && now.Sub(job.Created) <= g.Settle:
		return keep(", and its Job is new")
	case w.State != "DELETED" && now.Sub(w.Since) <= g.Settle:
		return keep(" since a moment; its Job may be ending")
	case w.State == "CRASHED" && !job.NotStarted:
		// The engine's handler of SIGTERM puts a CRASHED run back to AwaitingRetry,
		// and the flow would run again (seen on 3.8.8).
		return keep(", and its pod has started: it ends by itself; to end it now, set the flow run to Failed in the UI, and the next sweep deletes the Job")
	}
	return Decision{report.DeleteJob, why, job}
}
