package dispatch_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/kube/kubetest"
	"slipway/prefect/prefecttest"
)

// preparedLast makes due runs whose oldest is prepared after all others: what its Job
// refers to is answered when the others have asked for theirs.
func (w *world) preparedLast(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		name := fmt.Sprintf("v%d", i)
		w.prefect.AddVariable(name, "flow:1")
		d := w.prefect.AddDeployment(pool, "etl", name, doc{"job_variables": doc{"image": "{{ prefect.variables." + name + " }}"}})
		ids[i] = w.prefect.AddRun(d, time.Now().Add(time.Duration(i-n)*time.Second), nil)
	}
	var others sync.WaitGroup
	others.Add(n - 1)
	w.onPrefect(func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/variables/name/v0"):
			others.Wait()
		case strings.Contains(r.URL.Path, "/variables/name/"):
			others.Done()
		}
		return false
	})
	return ids
}

// TestOrderUnderALimit: the oldest runs are claimed, however many are prepared at once
// and whichever is ready first.
func TestOrderUnderALimit(t *testing.T) {
	for limit := 1; limit <= 3; limit++ {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			w := newWorld(t)
			ids := w.preparedLast(8)
			r := w.pass(func(r *dispatch.Request) { r.Limit = limit })
			claimed := w.proposals("PENDING")
			slices.Sort(claimed)
			want := slices.Sorted(slices.Values(ids[:limit]))
			if !slices.Equal(claimed, want) || r.Submitted != limit || r.Skipped != 8-limit || len(w.kube.Jobs()) != limit {
				t.Errorf("claimed %q, want %q: %+v", claimed, want, r)
			}
			for i, line := range r.Runs {
				if line.ID != ids[i] {
					t.Errorf("line %d is of another run than the poll's", i)
				}
			}
		})
	}
}

// TestRefusedRunLeavesItsPlace: under a limit, the next in order has the place that a
// run does not need.
func TestRefusedRunLeavesItsPlace(t *testing.T) {
	w := newWorld(t)
	ids := make([]string, 4)
	for i := range ids {
		fields := doc{"job_variables": doc{}}
		if i == 0 {
			fields = doc{"job_variables": doc{"image": ""}} // which the API server refuses
		}
		d := w.prefect.AddDeployment(pool, "etl", fmt.Sprint(i), fields)
		ids[i] = w.prefect.AddRun(d, time.Now().Add(time.Duration(i-10)*time.Second), nil)
	}
	r := w.pass(func(r *dispatch.Request) { r.Limit = 1 })
	outcomes := map[string]dispatch.Outcome{}
	for _, line := range r.Runs {
		outcomes[line.ID] = line.Outcome
	}
	if outcomes[ids[0]] != dispatch.Refused || outcomes[ids[1]] != dispatch.Submitted || r.Submitted != 1 || len(w.proposals("PENDING")) != 2 {
		t.Errorf("%v, %d claims", outcomes, len(w.proposals("PENDING")))
	}
}

// TestSlotGoesToTheOldest: the deployment's one slot is the oldest run's, and one
// refusal ends the deployment's turn in the pass.
func TestSlotGoesToTheOldest(t *testing.T) {
	w := newWorld(t)
	oldest := map[string]bool{}
	for _, name := range []string{"a", "b"} {
		d := w.prefect.AddDeployment(pool, "etl", name, doc{"concurrency_limit": 1})
		for i := range 6 {
			id := w.prefect.AddRun(d, time.Now().Add(time.Duration(i-10)*time.Second), nil)
			oldest[id] = i == 0
		}
	}
	free := w.run()
	r := w.pass()
	for _, line := range r.Runs {
		first := oldest[line.ID] || line.ID == free
		if first != (line.Outcome == dispatch.Submitted) || !first && !strings.Contains(line.Reason, "no slot is free") {
			t.Errorf("oldest %t: %+v", first, line)
		}
	}
	if n := len(w.proposals("PENDING")); n != 5 || len(w.kube.Jobs()) != 3 {
		t.Errorf("%d claims, %d Jobs; want two claims of each deployment with a limit, and one", n, len(w.kube.Jobs()))
	}
	// What waits for a slot is tried when it is due, and not ahead.
	if r := w.pass(lookAhead(time.Minute)); r.Submitted != 0 || len(w.proposals("PENDING")) != 7 {
		t.Errorf("the next pass made %d claims: %+v", len(w.proposals("PENDING"))-5, r)
	}
}

// TestQueuesByPriority: a limit is used up in the order of the queues' priorities.
func TestQueuesByPriority(t *testing.T) {
	w := newWorld(t)
	w.prefect.AddQueue(pool, "urgent", doc{"priority": 0})
	for range 3 {
		w.run()
	}
	d := w.prefect.AddDeployment(pool, "etl", "urgent", doc{"work_queue_name": "urgent"})
	urgent := w.prefect.AddRun(d, time.Now().Add(-time.Second), nil)
	w.pass(func(r *dispatch.Request) { r.Limit = 1 })
	if w.jobsOf(urgent) != 1 || len(w.kube.Jobs()) != 1 {
		t.Errorf("%d Jobs, of which %d are of the urgent run", len(w.kube.Jobs()), w.jobsOf(urgent))
	}
}

// TestDueAtOneInstant: more runs than a page are due at the same time and are held
// back; the one behind them is reached in the same pass.
func TestDueAtOneInstant(t *testing.T) {
	const page = 20
	for name, c := range map[string]struct {
		due       time.Duration
		lookAhead time.Duration
		held      doc // the deployment of those held back
	}{
		"their namespace's quota is used up": {due: -10 * time.Second, held: doc{}},
		"they are not claimed ahead":         {due: 40 * time.Second, lookAhead: time.Minute, held: doc{"concurrency_limit": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, prefecttest.APILimit(page))
			due := time.Now().Add(c.due).Truncate(time.Second)
			held := w.prefect.AddDeployment(pool, "etl", "held", c.held)
			for range 2*page + 5 {
				w.prefect.AddRun(held, due, nil)
			}
			d := w.prefect.AddDeployment(pool, "etl", "elsewhere", doc{"job_variables": doc{"namespace": "default"}})
			behind := w.prefect.AddRun(d, due, nil)
			w.onJobPost(func(rw http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/namespaces/default/") {
					return false
				}
				kubetest.Refuse(rw, 403, "Forbidden", "exceeded quota: q, requested: count/jobs.batch=1", nil)
				return true
			})
			r := w.pass(lookAhead(c.lookAhead))
			if r.Submitted != 1 || w.jobsOf(behind) != 1 || r.Found != 2*page+6 {
				t.Errorf("found %d, submitted %d, of the one behind %d Jobs", r.Found, r.Submitted, w.jobsOf(behind))
			}
			if n := w.posts("/get_scheduled_flow_runs"); n > 12 {
				t.Errorf("%d polls", n)
			}
		})
	}
}

// TestServerLimit: a server whose lists are shorter than usual is served, by passes
// and by sweeps.
func TestServerLimit(t *testing.T) {
	const limit, runs = 7, 20
	w := newWorld(t, prefecttest.APILimit(limit))
	ids := w.runs(runs)
	if r := w.pass(); r.Submitted != runs || len(w.kube.Jobs()) != runs {
		t.Fatalf("%d submitted, %d Jobs", r.Submitted, len(w.kube.Jobs()))
	}
	for name := range w.kube.Jobs() {
		w.kube.Change("jobs/"+name, endedAt("Failed", time.Now()))
	}
	if r := w.sweep(); r.Repaired != runs || w.state(ids[runs-1]).StateType != "CRASHED" {
		t.Errorf("%d repaired", r.Repaired)
	}
}
