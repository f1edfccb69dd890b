package sweep

import (
	"testing"

	"slipway/dispatch/report"
	"slipway/dispatch/workpool"
	"slipway/prefect"
)

// TestOrder: what there is evidence about comes first, and of the runs without a Job in
// the list one sweep looks at so many at most, which differ from sweep to sweep.
func TestOrder(t *testing.T) {
	const known, unknown = 50, maxUnknown + 200
	var subjects []*subject
	for i := range known + unknown {
		subjects = append(subjects, &subject{unknown: i%15 != 0 || i >= 15*known})
	}
	reached := map[int]bool{}
	for sweeps := 0; len(reached) < len(subjects); sweeps++ {
		if sweeps == 1000 {
			t.Fatalf("%d of %d runs are never looked at", len(subjects)-len(reached), len(subjects))
		}
		all := order(subjects)
		if len(all) != known+maxUnknown {
			t.Fatalf("%d runs are looked at, want %d", len(all), known+maxUnknown)
		}
		for i, at := range all {
			if reached[at] = true; subjects[at].unknown != (i >= known) {
				t.Fatalf("number %d in order: unknown is %v", i, subjects[at].unknown)
			}
		}
	}
}

// TestRunWithoutAState: a list's answer without a state, as a poll's is, ends nothing.
func TestRunWithoutAState(t *testing.T) {
	s := &sweep{session: &workpool.Session{}}
	for _, state := range []string{"PENDING", "RUNNING", "CANCELLING", "SCHEDULED", "COMPLETED", ""} {
		run := &prefect.FlowRun{ID: "r", StateType: state, StateName: "Pending"}
		for _, jobs := range [][]*listed{nil, {{run: "r", claim: "c", deleting: true}}} {
			picked := s.pick(run, jobs)
			if unneeded := state == "SCHEDULED" && jobs == nil; (picked == nil) != unneeded || picked != nil && picked.row != nil {
				t.Errorf("%q with %d Jobs: %+v", state, len(jobs), picked)
			}
		}
	}
}

// TestDeletionNeedsTheRunsID: whatever was decided, a Job that does not bear the run's id
// is not deleted; no server is even asked.
func TestDeletionNeedsTheRunsID(t *testing.T) {
	a := &application{world: World{RunID: "r"}, decision: Decision{Action: report.DeleteJob, Job: Job{Place: here, UID: "u", State: Active, ClaimID: "c", OfPool: true}}}
	if result := a.deleteJob(t.Context()); result.done || result.text == "" {
		t.Errorf("%+v", result)
	}
}
