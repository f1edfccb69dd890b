package sweep

import (
	"testing"
	"time"

	"slipway/dispatch/report"
)

// TestDecideElsewhere: of a run that something else has started, only a Job that has been
// alive since then decides.
func TestDecideElsewhere(t *testing.T) {
	since := testNow.Add(-10 * time.Minute)
	for _, state := range []string{"PENDING", "RUNNING", "CANCELLING"} {
		for _, job := range jobsOf("c") {
			for flags := range 1 << 3 {
				w := World{
					RunID: "r", State: state, Since: since, Started: true, OfPool: true, Owner: Ours, ClaimID: "c", ClaimedAt: testNow.Add(-time.Hour), Elsewhere: since,
					HasDue: flags&1 == 0, Reported: flags&2 != 0, SubState: flags&4 != 0, Job: job,
				}
				for _, d := range Decide(&w, testNow, testGraces) {
					if d.Action.Repairs() && !job.State.Live() && !job.FinishedAt.After(since) {
						t.Errorf("%+v: %s (%s)", w, d.Action, d.Reason)
					}
				}
				w.Elsewhere = time.Time{}
				if d := Decide(&w, testNow, testGraces); job.State == Failed && state == "RUNNING" && !job.PodLives && d[0].Action != report.Crash {
					t.Errorf("started by its Job, %+v: %s (%s)", w, d[0].Action, d[0].Reason)
				}
			}
		}
	}
}

// TestDecideClaims: a claim that was granted twice is put back, and one over which an
// observer has written gets no second Job.
func TestDecideClaims(t *testing.T) {
	for _, job := range jobsOf("c") {
		w := World{RunID: "r", State: "PENDING", OfPool: true, Owner: Ours, ClaimID: "c", ClaimedAt: testNow.Add(-time.Hour), HasDue: true, Job: job, Twice: true}
		if d := Decide(&w, testNow, testGraces); d[0].Action != report.PutBack {
			t.Errorf("granted twice, %+v: %s (%s)", job, d[0].Action, d[0].Reason)
		}
		w.Twice, w.SubState = false, true
		if d := Decide(&w, testNow, testGraces); d[0].Action == report.CreateJob || job.State == Absent && d[0].Action != report.Crash {
			t.Errorf("under a sub-state, %+v: %s (%s)", job, d[0].Action, d[0].Reason)
		}
	}
}
