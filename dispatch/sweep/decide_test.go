package sweep

import (
	"testing"
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/kube"
)

var (
	testNow    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testGraces = Graces{Orphan: time.Minute, Foreign: 10 * time.Minute, Settle: 30 * time.Second, Claim: 45 * time.Second}
	here       = claim.Place{Namespace: "dev", Name: "etl-x"}
)

// TestDecide holds the decision to rules that must hold over the whole product of
// run states, claims, Jobs, ages and pods, and counts what it decides.
func TestDecide(t *testing.T) {
	const shown = 10
	faults, decided := 0, map[report.Action]int{}
	product(func(w World, g Graces) {
		decisions := Decide(&w, testNow, g)
		if len(decisions) == 0 {
			t.Errorf("%+v: nothing is decided", w)
		}
		for _, d := range decisions {
			decided[d.Action]++
			if fault := unlawful(w, d, g); fault != "" || d.Reason == "" {
				if faults++; faults > shown {
					continue
				}
				t.Errorf("%+v: %s (%s): %s", w, d.Action, d.Reason, fault)
			}
		}
	})
	if faults > shown {
		t.Errorf("%d decisions break a rule", faults)
	}
	for _, action := range []report.Action{report.LeaveAlone, report.Tell, report.WritePID, report.CreateJob, report.PutBack, report.GiveBack, report.Crash, report.DeleteJob, report.Cancel} {
		if decided[action] == 0 {
			t.Errorf("nothing in the product is met with %q", action)
		}
	}
	t.Log(decided)
}

// product calls f with every world that can differ in what is decided.
func product(f func(World, Graces)) {
	ages := []time.Duration{0, 20 * time.Second, time.Hour}
	for _, state := range []string{"SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "DELETED"} {
		for _, owner := range []Owner{Nobody, Ours, OtherCluster, Foreign} {
			for _, job := range jobsOf("c") {
				for _, other := range othersOf("older") {
					for _, age := range ages {
						for _, flags := range flagsOf(state, job) {
							f(worldOf(state, owner, job, other, age, flags))
						}
					}
				}
			}
		}
	}
}

// flagsOf are those of worldOf. Once a run is over, none of them is asked; and only a pod
// that has not started can be kept from starting.
func flagsOf(state string, job Job) []int {
	const stuck = 1 << 4
	var all []int
	for flags := range 1 << 6 {
		switch {
		case (over(state) || state == "PAUSED" || state == "DELETED") && flags != 0 && flags != 1<<6-1:
		case flags&stuck != 0 && (job.State != Active || !job.NotStarted):
		default:
			all = append(all, flags)
		}
	}
	return all
}

func jobsOf(claimID string) []Job {
	old, moment := testNow.Add(-time.Hour), testNow.Add(-time.Second)
	place := claim.Place{Namespace: "dev", Name: "etl-" + claimID}
	return []Job{
		{Place: place, Reason: "HTTP 503"}, {Place: place, Reason: "HTTP 403", Refused: true}, {Place: place, State: Absent},
		{Place: place, State: Active, ClaimID: claimID, UID: claimID, Created: old, OfRun: true, OfPool: true},
		{Place: place, State: Active, ClaimID: claimID, UID: claimID, Created: old, OfRun: true, OfPool: true, NotStarted: true, Superseded: true},
		{Place: place, State: Active, ClaimID: claimID, UID: claimID, Created: moment, OfRun: true},
		{Place: place, State: Active, ClaimID: claimID, UID: claimID, Created: old},
		{Place: place, State: Ending, ClaimID: claimID, UID: claimID, Created: old, OfPool: true},
		{Place: place, State: Failed, ClaimID: claimID, UID: claimID, Created: old, FinishedAt: old, OfPool: true},
		{Place: place, State: Failed, ClaimID: claimID, UID: claimID, Created: old, FinishedAt: moment, OfPool: true, PodLives: true},
		{Place: place, State: Complete, ClaimID: claimID, UID: claimID, Created: old, FinishedAt: old, OfPool: true},
		{Place: place, State: Complete, ClaimID: claimID, UID: claimID, Created: old, FinishedAt: moment, OfPool: true},
	}
}

// othersOf are Jobs of an earlier claim. Of those that have ended one stands for all: they
// are only asked whether they live.
func othersOf(claimID string) []Job {
	all := []Job{{}}
	for _, job := range jobsOf(claimID) {
		if job.State == Active || job.State == Ending || job.State == Failed && !job.PodLives || job.State == Unseen && !job.Refused {
			all = append(all, job)
		}
	}
	return all
}

func worldOf(state string, owner Owner, job, other Job, age time.Duration, flags int) (World, Graces) {
	g := testGraces
	at := testNow.Add(-age)
	w := World{RunID: "r", State: state, Since: at, Owner: owner, ClaimID: "c", ClaimedAt: at, HasDue: flags&1 == 0, OfPool: flags&32 == 0, Reported: flags&2 != 0, Started: flags&4 != 0, RetryAt: at, Job: job}
	if other.Place.Known() {
		w.Others = []Job{other}
	}
	w.EngineRetry = flags&8 != 0
	if flags&16 != 0 && job.State == Active && job.NotStarted {
		w.Stuck = &kube.Diagnosis{Category: kube.Taint, Since: at}
		g.Limits = map[string]time.Duration{"Unschedulable": time.Minute}
	}
	return w, g
}

// unlawful names the rule that a decision breaks.
func unlawful(w World, d Decision, g Graces) string {
	terminal := over(w.State) || w.State == "DELETED"
	tired := w.Stuck != nil && testNow.Sub(w.Stuck.Since) > time.Minute
	ours := w.Owner == Ours
	switch d.Action {
	case report.CreateJob:
		return first(
			rule(!ours || w.State != "PENDING", "only the Job of our claim on a PENDING run is made"),
			rule(w.Job.State != Absent && !w.Job.Refused || w.Reported, "only a Job that was never made is made"),
			rule(!w.HasDue || w.EngineRetry, "a claim on a stale page gets no Job"),
			rule(testNow.Sub(w.ClaimedAt) <= g.Orphan, "the owner of a claim has its time"),
			rule(!w.OfPool, "the Job of another work pool's run is that pool's to make"),
			rule(w.othersLive(), "no Job is made beside another"))
	case report.Crash:
		return first(
			rule(!ours, "a run that somebody else claimed is not crashed"),
			rule(w.othersLive(), "a run is not crashed while a Job of it is at work"),
			rule(w.Job.State == Unseen || w.Job.State == Ending, "what is not known, or is ending, crashes nothing"),
			rule(w.Job.State == Active && (!tired || w.State != "PENDING"), "a run whose Job is active is crashed only if its pod cannot start"),
			rule(w.Job.State == Complete && testNow.Sub(w.Job.FinishedAt) <= g.Settle, "an engine is given time to report"),
			rule(w.Job.PodLives && testNow.Sub(w.Job.FinishedAt) <= g.Settle, "a pod that lives is given time to end"),
			rule(w.State == "PENDING" && w.stale(), "a claim on a stale page is put back"),
			rule(terminal || w.State == "PAUSED" || w.State == "CANCELLING" || w.State == "SCHEDULED" && !w.EngineRetry, "only what is claimed or runs is crashed"))
	case report.GiveBack:
		return first(
			rule(w.Owner != Foreign, "a claim of Slipway's, of whatever cluster, is never given back by a sweep"),
			rule(w.State != "PENDING" || w.Job.State != Absent || w.othersLive(), "only a PENDING run without a Job is given back"),
			rule(testNow.Sub(w.ClaimedAt) <= g.Foreign, "a foreign owner has its time"))
	case report.PutBack:
		return first(
			rule(!ours || w.State != "PENDING", "only our claim is put back"),
			rule(!w.OfPool, "another work pool's run is not put back"),
			rule(!w.stale(), "only a claim on a stale page is put back"))
	case report.DeleteJob:
		return unlawfulDeletion(w, d.Job, g, tired)
	case report.Cancel:
		return first(
			rule(w.State != "CANCELLING" || w.Owner == Foreign || w.Owner == OtherCluster, "CANCELLED is for a CANCELLING run of ours"),
			rule(w.Job.State.Live() || w.othersLive(), "CANCELLED is for a run without a pod"),
			rule(ours && w.Job.State == Unseen, "what is not known cancels nothing"))
	case report.Tell:
		return first(rule(w.Stuck == nil, "there is nothing to tell"), rule(w.State != "PENDING" && w.State != "SCHEDULED", "what has started is not told of"))
	case report.WritePID:
		return first(rule(w.Reported || d.Job.State != Active || !ours, "a pid is written for our active Job that has none"))
	}
	return rule(d.Action.Repairs(), "an action without a rule")
}

func unlawfulDeletion(w World, job Job, g Graces, tired bool) string {
	terminal := over(w.State) || w.State == "DELETED"
	return first(
		rule(job.State != Active, "only an active Job is deleted"),
		rule(!job.OfRun, "only a Job that bears the run's id is deleted"),
		rule(!job.OfPool && w.State != "CANCELLING", "only a Job of this work pool is deleted"),
		rule(w.State == "PAUSED", "a paused run is its engine's"),
		rule((w.State == "RUNNING" || w.State == "PENDING") && !job.Superseded, "the Job of a run that may be at work is not deleted"),
		rule((w.State == "RUNNING" || w.State == "PENDING" && w.Job.State != Absent) && !job.NotStarted, "no pod is ended whose engine could disturb the run"),
		rule(w.State == "SCHEDULED" && !job.Superseded && (!tired || !job.NotStarted), "the Job of a run that was put back is its engine's"),
		rule(w.State == "CRASHED" && !job.NotStarted, "deleting the live pod of a CRASHED run would make it run again"),
		rule(terminal && w.State != "DELETED" && testNow.Sub(w.Since) <= g.Settle, "a pod whose run has just ended has its time"),
		rule(w.State == "CANCELLING" && w.Started && testNow.Sub(w.Since) <= g.Settle, "an engine has its time to run hooks"),
		rule(w.State == "CANCELLING" && (w.Owner == Foreign || w.Owner == OtherCluster), "somebody else's run is not cancelled here"))
}

func rule(broken bool, words string) string {
	if broken {
		return words
	}
	return ""
}

func first(faults ...string) string {
	for _, fault := range faults {
		if fault != "" {
			return fault
		}
	}
	return ""
}

// TestGone: Jobs that are gone end their runs, and tell when.
func TestGone(t *testing.T) {
	for state, want := range map[string]string{"PENDING": "before it ran", "RUNNING": "while it ran"} {
		w := World{State: state, Owner: Ours, ClaimID: "c", HasDue: true, Reported: true, Job: Job{Place: here, State: Absent}}
		if d := Decide(&w, testNow, testGraces); d[0].Action != report.Crash || d[0].Reason != "its Job was deleted "+want {
			t.Errorf("%s: %+v", state, d)
		}
	}
}

// TestStartLimit counts from when the pod was kept from starting, and knows groups.
func TestStartLimit(t *testing.T) {
	g := testGraces
	g.Limits = map[string]time.Duration{"Unschedulable": 10 * time.Minute, "Unschedulable.Taint": time.Hour}
	for name, c := range map[string]struct {
		category kube.Category
		since    time.Duration
		want     report.Action
	}{
		"a moment ago, in an old Job": {kube.InsufficientResources, 5 * time.Second, report.Tell},
		"longer than its group":       {kube.InsufficientResources, 11 * time.Minute, report.Crash},
		"its own limit is longer":     {kube.Taint, 11 * time.Minute, report.Tell},
		"no limit":                    {kube.ImagePullError, 100 * time.Hour, report.Tell},
	} {
		w := World{
			State: "PENDING", Owner: Ours, ClaimID: "c", HasDue: true, Reported: true, Stuck: &kube.Diagnosis{Category: c.category, Since: testNow.Add(-c.since)},
			Job: Job{Place: here, State: Active, ClaimID: "c", Created: testNow.Add(-200 * time.Hour), NotStarted: true},
		}
		if d := Decide(&w, testNow, g); d[0].Action != c.want {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
