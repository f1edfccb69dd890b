package dispatch_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/kube/kubetest"
)

// TestTwoPrefectServers: Slipways of two Prefect servers share a cluster and a
// namespace, and their work pools a name. None touches the other's Jobs.
func TestTwoPrefectServers(t *testing.T) {
	for _, state := range []string{"PENDING", "RUNNING", "CANCELLING", "COMPLETED", "CRASHED"} {
		for name, change := range map[string]func(*dispatch.Options){
			"": nil, ", adopting": func(o *dispatch.Options) { o.Adopt = true },
		} {
			t.Run(state+name, func(t *testing.T) {
				one := newWorld(t)
				id, _ := one.submitted()
				if state != "PENDING" {
					one.force(id, "RUNNING", state)
				}
				other := one.beside()
				other.change = change
				if r := other.sweep(); len(r.Rows) != 0 || len(r.Warnings) != 0 || one.jobsOf(id) != 1 {
					t.Errorf("the other's sweep left %d Jobs: %+v", one.jobsOf(id), r)
				}
				if one.state(id).StateType != state {
					t.Errorf("the run is %s", one.state(id).StateType)
				}
			})
		}
	}
}

// TestOtherServersWorker: a Job of a Python worker of another Prefect server, whose
// work pool has the same name, is not adopted.
func TestOtherServersWorker(t *testing.T) {
	one := newWorld(t)
	id, job := one.workersRun("RUNNING")
	one.kube.Change(job, func(d doc) { delete(d["metadata"].(doc)["labels"].(doc), "slipway/work-pool-id") })
	other := one.beside()
	other.change = func(o *dispatch.Options) { o.Adopt = true }
	if r := other.sweep(); len(r.Rows) != 0 || one.jobsOf(id) != 1 {
		t.Errorf("%+v, %d Jobs", r, one.jobsOf(id))
	}
	one.change = func(o *dispatch.Options) { o.Adopt = true }
	if r := one.sweep(); r.Repaired != 0 || one.jobsOf(id) != 1 {
		t.Errorf("its own server's: %+v, %d Jobs", r, one.jobsOf(id))
	}
	one.kube.Change(job, endedAt("Failed", time.Now()))
	if r := one.sweep(); r.Repaired != 1 || one.state(id).StateType != "CRASHED" {
		t.Errorf("once it failed: %+v, the run is %s", r, one.state(id).StateType)
	}
}

// attempts is a run of the pool in its second attempt, whose first one's Job is kept.
func (w *world) attempts(first, end, again, now string) string {
	w.t.Helper()
	id, job := w.submitted()
	w.force(id, "RUNNING", first)
	w.kube.Change(job, endedAt(end, time.Now().Add(-time.Hour)))
	w.prefect.Force(id, doc{"type": "SCHEDULED", "name": again})
	if line := only(w.pass(), w.t); line.Outcome != dispatch.Submitted {
		w.t.Fatalf("%+v", line)
	}
	if now != "PENDING" {
		w.force(id, now)
	}
	return id
}

// TestOtherPoolsSweep: the sweep of one work pool has nothing to say about the runs of
// another, and the pool's own judges a run by its current Job.
func TestOtherPoolsSweep(t *testing.T) {
	for name, c := range map[string]struct{ first, end, again, now string }{
		"retried, RUNNING":    {"FAILED", "Failed", "AwaitingRetry", "RUNNING"},
		"retried, PENDING":    {"FAILED", "Failed", "AwaitingRetry", "PENDING"},
		"resumed, RUNNING":    {"PAUSED", "Complete", "Resuming", "RUNNING"},
		"retried, CANCELLING": {"FAILED", "Failed", "AwaitingRetry", "CANCELLING"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.addPool("other")
			id := w.attempts(c.first, c.end, c.again, c.now)
			for range 2 {
				if r := w.sweepIn(time.Hour, "other"); len(r.Rows) != 0 || w.jobsOf(id) != 2 || w.state(id).StateType != c.now {
					t.Errorf("%+v: the run is %s with %d Jobs", r, w.state(id).StateType, w.jobsOf(id))
				}
			}
			if c.now == "CANCELLING" {
				return
			}
			if r := w.sweep(); r.Repaired != 0 || w.state(id).StateType != c.now {
				t.Errorf("its own: %+v, the run is %s", r, w.state(id).StateType)
			}
		})
	}
}

// TestOtherClustersClaim: a claim of Slipway in another cluster is never given back,
// however long its pod waits, and its run is not claimed.
func TestOtherClustersClaim(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Minute} {
		b := newWorld(t)
		b.change = func(o *dispatch.Options) { o.Cluster = "b" }
		id, _ := b.submitted()
		a := &world{t: t, prefect: b.prefect, kube: kubetest.New(t, "dev"), deployment: b.deployment}
		a.change = func(o *dispatch.Options) { o.Cluster, o.ForeignOrphanGrace = "a", grace }
		r := a.sweep()
		if a.state(id).StateType != "PENDING" || r.Repaired != 0 || !strings.Contains(row(r, id).Reason, "another cluster") {
			t.Errorf("%+v, the run is %s", r, a.state(id).StateType)
		}
		if r := a.pass(); r.Submitted != 0 || len(a.kube.Jobs())+len(b.kube.Jobs()) != 1 {
			t.Errorf("%+v", r)
		}
		for _, state := range []string{"RUNNING", "CANCELLING"} {
			b.force(id, state)
			if r := a.sweep(); r.Repaired != 0 || a.state(id).StateType != state {
				t.Errorf("%s: %+v, the run is %s", state, r, a.state(id).StateType)
			}
		}
	}
}

// TestMovedToAnotherPool: a run whose work pool was changed while it runs is harmed by
// the sweep of neither, and its crash is repaired.
func TestMovedToAnotherPool(t *testing.T) {
	w := newWorld(t, movable)
	w.addPool("new")
	id, job := w.submitted()
	w.force(id, "RUNNING")
	d := w.prefect.AddDeployment("new", "etl", "moved", nil)
	model := w.state(w.prefect.AddRun(d, time.Now().Add(time.Hour), nil))
	w.call(http.MethodPatch, "/flow_runs/"+id, doc{"work_pool_name": "new", "work_queue_id": model.WorkQueueID})
	for _, name := range []string{pool, "new", pool} {
		if r := w.sweepIn(time.Hour, name); r.Repaired != 0 || r.Failed != 0 || w.state(id).StateType != "RUNNING" || w.jobsOf(id) != 1 {
			t.Errorf("pool %s: %+v, the run is %s with %d Jobs", name, r, w.state(id).StateType, w.jobsOf(id))
		}
	}
	w.kube.Change(job, endedAt("Failed", time.Now()))
	w.sweepIn(time.Hour, "new")
	if w.state(id).StateType != "CRASHED" {
		t.Errorf("once its Job failed the run is %s", w.state(id).StateType)
	}
}

// TestTwoDispatchersOfOnePool: sweeps side by side repair nothing twice.
func TestTwoDispatchersOfOnePool(t *testing.T) {
	w := newWorld(t)
	failed, job := w.submitted()
	w.force(failed, "RUNNING")
	orphan := w.orphanBeside()
	w.kube.Change(job, endedAt("Failed", time.Now()))
	done := make(chan dispatch.SweepReport, 4)
	for range cap(done) {
		go func() {
			o := w.now().Add(time.Hour)
			d := w.dispatcherAt(func() time.Time { return o })
			reports, err := d.Sweep(t.Context(), dispatch.SweepRequest{WorkPools: []string{pool}})
			if err != nil {
				t.Error(err)
			}
			done <- reports[0]
		}()
	}
	for range cap(done) {
		<-done
	}
	if w.jobsOf(orphan) != 1 || len(w.kube.Jobs()) != 2 || len(w.proposals("CRASHED")) == 0 || w.lines("Slipway: its Job failed") != 1 {
		t.Errorf("the orphan has %d Jobs, %d lines tell of the crash", w.jobsOf(orphan), w.lines("Slipway: its Job failed"))
	}
}
