package tests

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWorldKilledBeforeThePid: a dispatcher is killed after it made the Job and
// before it wrote the infrastructure_pid. Whatever becomes of the Job, two sweeps
// repair it, with the rights of the default install too.
func TestWorldKilledBeforeThePid(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, c := range []struct {
		kind
		until func(t *testing.T, s *subject) // what two sweeps are then enough for
		pid   bool                           // they write it
	}{
		{kind{name: "live", waits: true, attempts: 1, end: "COMPLETED"}, untilJobIsOld, true},
		{kind{name: "waits", due: 50 * time.Second, waits: true, attempts: 1, end: "COMPLETED"}, untilJobIsOld, true},
		{kind{name: "fails", env: map[string]string{"PROBE_EXIT": "7"}, attempts: 1, end: "CRASHED", allowed: map[string]int{"CRASHED": 1}}, untilJobEnded, false},
		{kind{name: "ends", env: map[string]string{"PROBE_EXIT": "0"}, attempts: 1, end: "CRASHED", allowed: map[string]int{"CRASHED": 1}}, untilJobEnded, false},
		{kind{name: "cancelled", env: map[string]string{"PROBE_SECONDS": "3600"}, attempts: 1, end: "CANCELLED", allowed: map[string]int{"CANCELLED": 1}}, untilCancelling, false},
	} {
		for _, clusterWide := range []bool{false, true} {
			if clusterWide && !full {
				continue // the default install is where it was wrong
			}
			t.Run(c.name+", "+rights(clusterWide), func(t *testing.T) {
				t.Parallel()                                      // it mostly waits
				p := first(t, clusterWide, "SLIPWAY_DEADLINE=5s") // whose end the sweep of a cancelled run waits for
				until := newSignal(t)
				pool := "unreported-" + c.name + "-" + rights(clusterWide)[:4]
				s := p.subject(t, c.kind, p.pool(t, pool, nil), until)
				p.killedAt(t, writesPID, false, "dispatch", "--work-pool", pool)
				c.until(t, s)
				p.sweep(t, pool)
				if c.end == "CANCELLED" {
					eventually(t, "its Job goes with its pod", func() bool { return len(jobsOf(t, s.id)) == 0 })
				}
				last := p.sweep(t, pool)
				run, err := p.server.FlowRun(t.Context(), s.id)
				if err != nil || c.pid != (run.PID != "") || !c.pid && run.StateType != c.end {
					t.Errorf("after two sweeps the run is %s with the pid %q (%v):\n%s", run.StateType, run.PID, err, last.Stdout)
				}
				until.give(t)
				untilEnded(t, []*subject{s})
				judge(t, "killed before the pid, "+c.name+", "+rights(clusterWide), pool+"-", 1, []*subject{s}, "")
			})
		}
	}
}

func untilRunning(t *testing.T, s *subject) {
	t.Helper()
	eventually(t, s.String()+" RUNNING", func() bool { look(t, []*subject{s}); return s.state == "RUNNING" })
}

// untilJobIsOld: older than the settle grace of a second.
func untilJobIsOld(t *testing.T, s *subject) {
	t.Helper()
	eventually(t, s.String()+": its Job is old", func() bool {
		jobs := jobObjects(t, s.id)
		return len(jobs) > 0 && time.Since(jobs[0].CreationTimestamp.Time) > 3*time.Second
	})
}

// untilJobEnded: and the settle grace of a second is over, or the Job is gone.
func untilJobEnded(t *testing.T, s *subject) {
	t.Helper()
	eventually(t, s.String()+": its Job ended", func() bool {
		jobs := jobObjects(t, s.id)
		for _, job := range jobs {
			for _, c := range job.Status.Conditions {
				if c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed {
					return time.Since(c.LastTransitionTime.Time) > 3*time.Second
				}
			}
		}
		return len(jobs) == 0
	})
}

func jobObjects(t *testing.T, id string) []batchv1.Job {
	t.Helper()
	list, err := w.Cluster.Client.BatchV1().Jobs("").List(t.Context(), metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + id})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func untilCancelling(t *testing.T, s *subject) {
	t.Helper()
	untilRunning(t, s)
	if err := cancel(t.Context(), s.place.server, s.id); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	eventually(t, "the settle grace and the deadline", func() bool { return time.Since(since) > 8*time.Second })
}

// TestWorldShortTTL: Jobs whose TTL is 0 are gone once they end. The answer to the
// creation of each is lost, and comes so late that the flow has run to its end; or
// it is not. Dispatchers repeat what they got no answer to.
func TestWorldShortTTL(t *testing.T) {
	t.Parallel() // it mostly waits
	p := first(t, false)
	const pool = "ttl"
	d := p.pool(t, pool, map[string]any{"finished_job_ttl": 0})
	crashed := map[string]int{"CRASHED": 1}
	var subjects []*subject
	for range copies(10) {
		for _, k := range []kind{
			{name: "at once", attempts: 1, end: "COMPLETED"}, {name: "at once, too", attempts: 1, end: "COMPLETED"},
			{name: "longer", env: map[string]string{"PROBE_SECONDS": "3"}, attempts: 1, end: "COMPLETED"},
			{name: "dies", env: map[string]string{"PROBE_EXIT": "7"}, attempts: 1, end: "CRASHED", allowed: crashed},
		} {
			subjects = append(subjects, p.subject(t, k, d, ""))
		}
	}
	var mu sync.Mutex
	lost := map[string]bool{}
	gate := p.cutter(t)
	next := gate.kube.Config.Handler
	gate.kube.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !makesJob(r) {
			next.ServeHTTP(rw, r)
			return
		}
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		name := created(answer)
		mu.Lock()
		again := lost[name]
		lost[name] = true
		mu.Unlock()
		if name != "" && !again {
			gone(r, name)
			panic(http.ErrAbortHandler)
		}
		for key, values := range answer.Header() {
			rw.Header()[key] = values
		}
		rw.WriteHeader(answer.Code)
		_, _ = rw.Write(answer.Body.Bytes())
	})
	behind := gate.behind(t)
	for range 3 {
		behind.attempt(t, "dispatch", "--work-pool", pool)
	}
	come := start(t, trigger{p, []string{pool}})
	untilEnded(t, subjects)
	come.more(t, 2)
	come.stop()
	judge(t, "TTL 0, and the answers to all creations lost", pool+"-", len(lost), subjects, "")
}

// created is the name in the API server's answer to a creation, "" of a refusal.
func created(answer *httptest.ResponseRecorder) string {
	if answer.Code != http.StatusCreated {
		return ""
	}
	_, rest, _ := strings.Cut(answer.Body.String(), `"name":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

// gone waits until a Job is no more, for as long as a client waits for its answer.
func gone(r *http.Request, name string) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if _, err := w.Cluster.Client.BatchV1().Jobs("dev").Get(r.Context(), name, metav1.GetOptions{}); err != nil {
			return
		}
	}
}

// TestWorldSlowServers: every answer takes longer than five seconds. Runs are claimed
// nevertheless, and each pass ends.
func TestWorldSlowServers(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, c := range []struct {
		name          string
		prefect, kube bool
	}{{"Prefect", true, false}, {"API server", false, true}, {"both", true, true}} {
		if c.prefect && c.kube && !full {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := first(t, false, "SLIPWAY_ORPHAN_GRACE=60s", "SLIPWAY_SETTLE_GRACE=30s")
			pool := "slow-" + strings.ToLower(c.name[:3])
			d := p.pool(t, pool, nil)
			until := newSignal(t)
			subjects := []*subject{p.subject(t, kind{name: "in flight", waits: true, holds: "RUNNING", attempts: 1, end: "COMPLETED"}, d, until)}
			p.claim(t, subjects, pool)
			untilHeld(t, subjects)
			for range copies(8) + 2 {
				subjects = append(subjects, p.subject(t, kind{name: "due", attempts: 1, end: "COMPLETED"}, d, until))
			}
			gate := p.cutter(t)
			for server, slow := range map[*httptest.Server]bool{gate.prefect: c.prefect, gate.kube: c.kube} {
				if slow {
					server.Config.Handler = fiveSecondsLate(server.Config.Handler)
				}
			}
			behind := gate.behind(t)
			var took time.Duration
			passes := 0
			for deadline := time.Now().Add(20 * time.Minute); !settledAll(t, subjects) && time.Now().Before(deadline); passes++ {
				started := time.Now()
				behind.slipway(t, "dispatch", "--work-pool", pool)
				took = max(took, time.Since(started))
			}
			until.give(t)
			untilEnded(t, subjects)
			judge(t, c.name+" slow: each answer takes 5 s", pool+"-", passes, subjects, fmt.Sprintf("passes of at most %s", took.Round(time.Second)))
			if took > 10*time.Minute {
				t.Errorf("a pass took %s", took)
			}
		})
	}
}

func fiveSecondsLate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(5200 * time.Millisecond):
		case <-r.Context().Done():
		}
		next.ServeHTTP(rw, r)
	})
}

// settledAll tells whether every subject has its Jobs, or had them.
func settledAll(t *testing.T, subjects []*subject) bool {
	t.Helper()
	look(t, subjects)
	for _, s := range subjects {
		if s.state != s.end && len(jobsOf(t, s.id)) < s.attempts {
			return false
		}
	}
	return true
}

// TestWorldRightsLost: the rights in a namespace are taken away while Jobs run there,
// and given back.
func TestWorldRightsLost(t *testing.T) {
	t.Parallel() // it mostly waits
	const pool, namespace = "rightless", "world-rightless"
	if err := w.Allow(t.Context(), "slipway", namespace); err != nil {
		t.Fatal(err)
	}
	p := first(t, false)
	until := newSignal(t)
	d := p.pool(t, pool, map[string]any{"namespace": namespace})
	var subjects []*subject
	for _, k := range someKinds(2) {
		subjects = append(subjects, p.subject(t, k, d, until))
	}
	come := start(t, trigger{p, []string{pool}})
	untilHeld(t, subjects)
	come.stop()
	bindings := w.Cluster.Client.RbacV1().RoleBindings(namespace)
	binding, err := bindings.Get(t.Context(), "slipway", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := bindings.Delete(t.Context(), binding.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		p.attempt(t, "sweep", "--work-pool", pool) // it may say that it cannot
		p.attempt(t, "dispatch", "--work-pool", pool)
	}
	binding.ResourceVersion, binding.UID = "", ""
	if _, err := bindings.Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	come = start(t, trigger{p, []string{pool}})
	until.give(t)
	untilEnded(t, subjects)
	come.stop()
	judge(t, "rights in the namespace lost and given back", pool+"-", 1, subjects, "")
}
