package dispatch

import (
	"fmt"
	"testing"
	"time"

	"slipway/kube"
	"slipway/prefect"
)

// TestRemedies holds the plan to rules that must hold over the whole product of
// run states, claims, Jobs, ages and lists, and counts what it decides.
func TestRemedies(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	graces := Graces{Orphan: time.Minute, Settle: 30 * time.Second, Claim: 45 * time.Second}
	decided := map[Remedy]int{}
	for _, state := range []string{"SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "DELETED"} {
		for _, owner := range []whose{nobodys, ours, elsewhere} {
			for jobName, job := range jobs(now) {
				for _, age := range []time.Duration{0, 20 * time.Second, time.Hour} {
					for _, other := range []bool{false, true} {
						for _, gone := range []bool{false, true} {
							for _, sure := range []bool{false, true} {
								for _, extra := range []struct {
									foreign, limit time.Duration
									stuck          bool
								}{{}, {foreign: 10 * time.Minute}, {stuck: true}, {stuck: true, limit: time.Minute}, {stuck: true, limit: 10 * time.Hour}} {
									s := product(now, state, owner, job, age, other, gone, sure)
									graces.Foreign, graces.Stuck = extra.foreign, map[string]time.Duration{}
									if extra.stuck && job != nil {
										s.stuck, s.stuckFor = &kube.Diagnosis{Category: kube.Taint}, now.Sub(job.Created)
									}
									if extra.limit > 0 {
										graces.Stuck["Unschedulable"] = extra.limit
									}
									remedy, why := s.remedy(now, graces)
									decided[remedy]++
									if fault := lawful(s, remedy, now, graces); fault != "" || why == "" {
										t.Errorf("%s %v job=%s age=%s other=%t gone=%t sure=%t %+v: %s (%s): %s", state, owner, jobName, age, other, gone, sure, extra, remedy, why, fault)
									}
								}
							}
						}
					}
				}
			}
		}
	}
	for _, remedy := range []Remedy{LeaveAlone, Tell, CreateJob, PutBack, GiveBack, Crash, DeleteJob, Cancel} {
		if decided[remedy] == 0 {
			t.Errorf("nothing in the product is met with %q", remedy)
		}
	}
	t.Log(decided)
}

func jobs(now time.Time) map[string]*kube.JobStatus {
	old, new := now.Add(-time.Hour), now.Add(-time.Second)
	return map[string]*kube.JobStatus{
		"none":          nil,
		"active":        {Created: old},
		"new":           {Created: new},
		"failed":        {Created: old, Failed: true, FinishedAt: old},
		"ended":         {Created: old, Complete: true, FinishedAt: old},
		"ended now":     {Created: old, Complete: true, FinishedAt: new},
		"being deleted": {Created: old, Deleting: true},
	}
}

func product(now time.Time, state string, owner whose, job *kube.JobStatus, age time.Duration, other, gone, sure bool) suspect {
	s := suspect{whose: owner, job: job, other: other, gone: gone && job == nil, sure: sure}
	if state != "DELETED" {
		due := now.Add(-age)
		s.run = &prefect.FlowRun{StateType: state, State: &prefect.State{Timestamp: now.Add(-age)}, NextScheduledStartTime: &due}
		if s.gone {
			s.run.InfrastructurePID = "dev:job"
		}
	}
	if owner != nobodys {
		at := now.Add(-age)
		s.claim = &prefect.State{Type: "PENDING", Name: "Pending", Timestamp: now.Add(-age), Details: prefect.StateDetails{ScheduledTime: &at}}
		if age == time.Hour && other {
			s.claim.Details.ScheduledTime = nil // a stale one
		}
	}
	return s
}

// lawful names the rule that a decision breaks.
func lawful(s suspect, remedy Remedy, now time.Time, g Graces) string {
	state := "DELETED"
	if s.run != nil {
		state = s.run.StateType
	}
	active := s.job != nil && !s.job.Complete && !s.job.Failed
	destructive := remedy.mends() && remedy != CreateJob
	tired := s.stuck != nil && g.Stuck["Unschedulable"] > 0 && s.stuckFor > g.Stuck["Unschedulable"] && state == "PENDING"
	switch {
	case destructive && !s.sure:
		return "a list that is not whole allows nothing destructive"
	case remedy == CreateJob && (s.whose != ours || state != "PENDING" || s.job != nil || s.gone):
		return "only the Job of our claim on a PENDING run, which was never made, is made"
	case remedy == CreateJob && (s.claim.Details.ScheduledTime == nil || s.age(now) <= g.Orphan):
		return "a stale or fresh claim gets no Job"
	case remedy == GiveBack && (s.whose == ours || g.Foreign == 0 || s.job != nil || s.other):
		return "ours is never un-claimed, a foreign one only if told to and without a Job"
	case remedy == Tell && (s.stuck == nil || state != "PENDING" || s.whose != ours || !active || tired && !s.other):
		return "what is told of is a PENDING run of ours whose Job is active, and whose pod may start yet"
	case remedy == Crash && (s.whose != ours || active && !tired || s.other):
		return "a run whose Job is active is not crashed, nor is somebody else's"
	case remedy == Crash && s.job != nil && s.job.Complete && now.Sub(s.job.FinishedAt) <= g.Settle:
		return "an engine is given time to report"
	case remedy == DeleteJob && (!active || s.job.Deleting):
		return "only a live Job is deleted"
	case remedy == DeleteJob && (state == "PENDING" || state == "RUNNING" || state == "SCHEDULED" || state == "PAUSED"):
		return "a Job is deleted only when its run is CANCELLING, terminal or deleted"
	case remedy == Cancel && (state != "CANCELLING" || active || s.whose == elsewhere):
		return "CANCELLED is for a CANCELLING run with nothing left"
	case state == "PAUSED" && remedy != LeaveAlone:
		return "a paused run is its engine's"
	}
	return ""
}

// TestGone: Jobs that are gone end their runs, and tell when.
func TestGone(t *testing.T) {
	now := time.Now()
	for state, want := range map[string]string{"PENDING": "before it ran", "RUNNING": "while it ran"} {
		s := product(now, state, ours, nil, time.Hour, false, true, true)
		if remedy, why := s.remedy(now, Graces{Orphan: time.Minute}); remedy != Crash || fmt.Sprint(why) != "its Job was deleted "+want {
			t.Errorf("%s: %s (%s)", state, remedy, why)
		}
	}
}
