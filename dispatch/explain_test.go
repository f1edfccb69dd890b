package dispatch_test

import (
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
)

// why is the first reason, and the others after it.
func (w *world) why(id string) (first, others string) {
	w.t.Helper()
	x, err := w.dispatcher().Explain(w.t.Context(), id)
	if err != nil || len(x.Reasons) == 0 {
		w.t.Fatalf("%+v, %v", x, err)
	}
	return x.Reasons[0], strings.Join(x.Reasons[1:], "; ")
}

func TestExplain(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *world) string
		first   string
	}{
		"not due": {func(w *world) string { return w.prefect.AddRun(w.deployment, time.Now().Add(time.Hour), nil) }, "it is due at "},
		"pool paused": {func(w *world) string {
			id := w.run()
			w.call("PATCH", "/work_pools/"+pool, doc{"is_paused": true})
			return id
		}, "its work pool is paused: prefect work-pool resume k8s"},
		"pool full": {func(w *world) string {
			w.submitted()
			w.call("PATCH", "/work_pools/"+pool, doc{"concurrency_limit": 1})
			return w.run()
		}, "the concurrency limit 1 of its work pool k8s is reached, by funky-otter ("},
		"deployment deleted": {func(w *world) string {
			id := w.run()
			w.call("DELETE", "/deployments/"+w.deployment, nil)
			return id
		}, "its deployment "},
		"no heartbeat": {func(w *world) string { return w.run() }, "no worker has ever polled this work pool"},
		"the next pass": {func(w *world) string {
			w.pass()
			return w.run()
		}, "nothing holds it back"},
		"former Job": {func(w *world) string {
			id, _ := w.submitted()
			w.prefect.Force(id, doc{"type": "RUNNING"})
			w.prefect.Force(id, doc{"type": "SCHEDULED", "name": "AwaitingRetry"})
			return id
		}, "Job dev/funky-otter-"},
		"orphan":        {func(w *world) string { return w.orphan() }, "claimed 0s ago; its owner has 1m0s to make the Job"},
		"waiting image": {func(w *world) string { id, _ := w.waitingRun("image-pull"); return id }, "its pod default/image-pull-7cs4p does not start: ImagePullError: container prefect-job: "},
		"failed Job": {func(w *world) string {
			id, job := w.submitted()
			w.kube.Change(job, ended("Failed"))
			return id
		}, "the next sweep makes it CRASHED: its Job failed (Job dev/funky-otter-"},
		"a worker's claim": {func(w *world) string {
			id := w.run()
			w.prefect.Force(id, doc{"type": "PENDING", "state_details": doc{"transition_id": "11111111-1111-4111-8111-111111111111"}})
			return id
		}, "claimed 0s ago by somebody else"},
		"running": {func(w *world) string {
			id, _ := w.submitted()
			w.prefect.Force(id, doc{"type": "RUNNING"})
			return id
		}, "it has started"},
		"over": {func(w *world) string {
			id := w.run()
			w.prefect.Force(id, doc{"type": "CRASHED", "message": "out of luck"})
			return id
		}, "it is over: Crashed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := c.prepare(w)
			if first, others := w.why(id); !strings.HasPrefix(first, c.first) {
				t.Errorf("first: %s\nthen: %s\nwant %s", first, others, c.first)
			}
		})
	}
}

// levels are the checks by level, as text.
func levels(checks []dispatch.Check) map[dispatch.Level]string {
	all := map[dispatch.Level]string{}
	for _, c := range checks {
		all[c.Level] += c.About + ": " + c.Found + " -> " + c.Fix + "\n"
	}
	return all
}

func TestDoctor(t *testing.T) {
	w := newWorld(t)
	w.pass()
	if got := levels(w.dispatcher().Doctor(t.Context(), []string{pool})); got[dispatch.Fail] != "" || !strings.Contains(got[dispatch.OK], "1 of 1 deployments make a Job") || !strings.Contains(got[dispatch.OK], "namespace dev: Slipway has its rights") {
		t.Errorf("%v", got)
	}
	w.call("PATCH", "/work_pools/"+pool, doc{"is_paused": true})
	w.prefect.AddDeployment(pool, "etl", "broken", doc{"job_variables": doc{"image": ""}})
	w.kube.Deny("delete", "jobs")
	got := levels(w.dispatcher().Doctor(t.Context(), []string{pool, "nowhere"}))
	for level, want := range map[dispatch.Level][]string{
		dispatch.Warn: {"is paused", "prefect work-pool resume"},
		dispatch.Fail: {"deployment broken: the API server refuses its Job", "may not: delete jobs -> kubectl apply -n dev -k deploy/namespace", `work pool "nowhere" does not exist`},
	} {
		for _, words := range want {
			if !strings.Contains(got[level], words) {
				t.Errorf("%s lacks %q:\n%s", level, words, got[level])
			}
		}
	}
}

// TestExplainAsksTheSweep: what the next sweep does is said in the same words.
func TestExplainAsksTheSweep(t *testing.T) {
	says := map[dispatch.Action]string{
		dispatch.WritePID: "writes where its Job is: ", dispatch.CreateJob: "makes its Job: ", dispatch.PutBack: "puts it back", dispatch.GiveBack: "gives it back",
		dispatch.Crash: "makes it CRASHED: ", dispatch.Cancel: "makes it CANCELLED: ",
	}
	for action, prepare := range repairs {
		t.Run(string(action), func(t *testing.T) {
			w := newWorld(t)
			id := prepare(w)
			told := row(w.look(dispatch.SweepRequest{WorkPools: []string{pool}, DryRun: true}), id)
			before := w.change
			w.change = func(o *dispatch.Options) {
				if before != nil {
					before(o)
				}
				o.Now = func() time.Time { return w.now().Add(time.Hour) }
			}
			first, others := w.why(id)
			if all := first + "; " + others; action != dispatch.DeleteJob && (!strings.Contains(all, "the next sweep "+says[action]) || !strings.Contains(all, told.Reason[strings.LastIndex(told.Reason, ",")+1:])) {
				t.Errorf("%s; the sweep says %q", all, told.Reason)
			}
		})
	}
}

// TestExplainHarmsNothing: of a healthy run nothing is advised that would end it.
func TestExplainHarmsNothing(t *testing.T) {
	for name, prepare := range map[string]func(w *world) string{
		"its engine's own retry": func(w *world) string { id, _ := w.ownRetry(); return id },
		"running":                func(w *world) string { id, _ := w.submitted(); w.force(id, "RUNNING"); return id },
		"being cancelled": func(w *world) string {
			id, _ := w.submitted()
			w.force(id, "RUNNING", "CANCELLING")
			return id
		},
		"claimed in another cluster": func(w *world) string {
			w.change = func(o *dispatch.Options) { o.Cluster = "b" }
			id, _ := w.submitted()
			w.change = nil
			return id
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first, others := w.why(prepare(w))
			if all := first + "; " + others; strings.Contains(all, "delete") || strings.Contains(all, "next sweep") {
				t.Error(all)
			}
		})
	}
	t.Run("a leftover before a retry", func(t *testing.T) {
		w := newWorld(t)
		id, _ := w.submitted()
		w.force(id, "RUNNING", "FAILED")
		w.retry(id)
		w.change = func(o *dispatch.Options) { o.Now = func() time.Time { return w.now().Add(time.Hour) } }
		if first, others := w.why(id); !strings.Contains(first, "of its earlier attempt is still active: the next sweep deletes it") {
			t.Errorf("%s; %s", first, others)
		}
	})
}
