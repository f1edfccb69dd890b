package tests

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/prefectserver"
)

// kind is a flow run with a history: what its flow does, what its users do, and
// what is then right.
type kind struct {
	name  string
	env   map[string]string // of its pods
	ttl   any               // job variable finished_job_ttl
	more  map[string]any    // fields of the run
	due   time.Duration     // from now
	waits bool              // its last execution goes on until a signal is given
	users []deed            // in this order

	holds    string         // the state type that it keeps until the signal
	attempts int            // Jobs, and executions of its flow
	end      string         // the state type that it ends in
	allowed  map[string]int // how often it may become CRASHED, CANCELLED or SCHEDULED (again)
}

// deed is what a user does with a run once it is in a state.
type deed struct {
	at    string // state type
	after bool   // after the signal
	do    func(ctx context.Context, server *prefectserver.Server, id string) error
}

func retry(ctx context.Context, server *prefectserver.Server, id string) error {
	return server.SetState(ctx, id, map[string]any{"type": "SCHEDULED", "name": "AwaitingRetry"})
}

func resume(ctx context.Context, server *prefectserver.Server, id string) error {
	return server.Call(ctx, "POST", "/flow_runs/"+id+"/resume", map[string]any{}, nil)
}

func cancel(ctx context.Context, server *prefectserver.Server, id string) error {
	return server.SetState(ctx, id, map[string]any{"type": "CANCELLING"})
}

// drain ends the pods of a run as `kubectl drain` does. They are found by their Job:
// those of Prefect 2 do not bear the run's labels.
func drain(ctx context.Context, _ *prefectserver.Server, id string) error {
	jobs, err := w.Cluster.Client.BatchV1().Jobs("").List(ctx, metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + id})
	if err != nil {
		return err
	}
	ended := 0
	for _, job := range jobs.Items {
		pods := w.Cluster.Client.CoreV1().Pods(job.Namespace)
		found, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "job-name=" + job.Name})
		if err != nil {
			return err
		}
		for _, pod := range found.Items {
			if err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
				return err
			}
			ended++
		}
	}
	if ended == 0 {
		return fmt.Errorf("run %s has no pods", id)
	}
	return nil
}

// kinds are the histories of runs that are healthy, each in its way.
func kinds() []kind {
	again := map[string]int{"SCHEDULED": 1}
	return []kind{
		{name: "at once", attempts: 1, end: "COMPLETED"},
		{name: "its Job removed at once", ttl: 0, attempts: 1, end: "COMPLETED"},
		{name: "in flight", waits: true, holds: "RUNNING", attempts: 1, end: "COMPLETED"},
		{name: "waiting for its time", due: 40 * time.Second, attempts: 1, end: "COMPLETED"},
		{name: "failed and retried", env: map[string]string{"PROBE_ENDS": "FAILED,COMPLETED"}, waits: true,
			users: []deed{{at: "FAILED", do: retry}}, holds: "RUNNING", attempts: 2, end: "COMPLETED", allowed: again},
		{name: "crashed and retried", env: map[string]string{"PROBE_ENDS": "DIES,COMPLETED"}, waits: true,
			users: []deed{{at: "CRASHED", do: retry}}, holds: "RUNNING", attempts: 2, end: "COMPLETED", allowed: map[string]int{"SCHEDULED": 1, "CRASHED": 1}},
		{name: "suspended and resumed", env: map[string]string{"PROBE_ENDS": "PAUSED,COMPLETED"}, waits: true,
			users: []deed{{at: "PAUSED", do: resume}}, holds: "RUNNING", attempts: 2, end: "COMPLETED", allowed: again},
		{name: "paused in its pod", env: map[string]string{"PROBE_PAUSES": "1"},
			users: []deed{{at: "PAUSED", after: true, do: resume}}, holds: "PAUSED", attempts: 1, end: "COMPLETED"},
		{name: "retried by its engine", env: map[string]string{"PROBE_ENDS": "FAILED"},
			more:     map[string]any{"empirical_policy": map[string]any{"retries": 1, "retry_delay": 15}},
			attempts: 1, end: "COMPLETED", allowed: again},
		{name: "put back by a drain", env: map[string]string{"PROBE_SIGTERM": "reschedule"}, waits: true,
			users: []deed{{at: "RUNNING", do: drain}}, holds: "RUNNING", attempts: 2, end: "COMPLETED", allowed: again},
		{name: "cancelled", env: map[string]string{"PROBE_SECONDS": "3600"}, users: []deed{{at: "RUNNING", after: true, do: cancel}},
			holds: "RUNNING", attempts: 1, end: "CANCELLED", allowed: map[string]int{"CANCELLED": 1}},
	}
}

// someKinds are all of them in the whole proof; CI draws half.
func someKinds(salt uint64) []kind {
	all := kinds()
	if full {
		return all
	}
	random := rand.New(rand.NewPCG(seed, salt))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:len(all)/2]
}

// subject is a flow run of a kind.
type subject struct {
	kind
	place place
	id    string
	done  int // of its users' deeds
	state string
}

// subject makes a run of a kind in a deployment.
func (p place) subject(t *testing.T, k kind, deployment string, until signal) *subject {
	t.Helper()
	env := maps.Clone(k.env)
	if env == nil {
		env = map[string]string{}
	}
	if k.waits {
		env["PROBE_UNTIL"] = string(until)
	}
	variables := map[string]any{"env": env}
	if k.ttl != nil {
		variables["finished_job_ttl"] = k.ttl
	}
	more := map[string]any{"job_variables": variables, "name": k.name}
	maps.Copy(more, k.more)
	id, err := p.server.CreateRun(t.Context(), deployment, time.Now().Add(k.due), more)
	if err != nil {
		t.Fatal(err)
	}
	return &subject{kind: k, place: p, id: id}
}

func (s *subject) String() string {
	return fmt.Sprintf("run %s (%s) of the %s server", s.id, s.name, s.place.name)
}

// next is what a user does next, nil for nothing now.
func (s *subject) next(signalled bool) *deed {
	if s.done == len(s.users) || s.users[s.done].after && !signalled {
		return nil
	}
	return &s.users[s.done]
}

// look reads the states of all subjects, in one request to each server.
func look(t *testing.T, subjects []*subject) {
	t.Helper()
	ids := map[*prefectserver.Server][]string{}
	for _, s := range subjects {
		ids[s.place.server] = append(ids[s.place.server], s.id)
	}
	for server, list := range ids {
		var found map[string]prefectserver.FlowRun
		eventually(t, "the runs are read", func() bool { // a busy server resets connections
			var err error
			found, err = server.FlowRuns(t.Context(), list)
			return err == nil
		})
		for _, s := range subjects {
			if s.place.server == server {
				s.state = found[s.id].StateType
			}
		}
	}
}

// drive does what the users do until a condition holds for every subject, and
// tells whether that came about.
func drive(t *testing.T, subjects []*subject, signalled bool, ready func(*subject) bool) bool {
	t.Helper()
	limit := waitLimit
	if full {
		limit *= 4 // so many more runs
	}
	for deadline := time.Now().Add(limit); ; time.Sleep(time.Second) {
		look(t, subjects)
		waiting := false
		var users sync.WaitGroup
		for _, s := range subjects {
			deed := s.next(signalled)
			waiting = waiting || deed != nil || !ready(s)
			if deed == nil || deed.at != s.state {
				continue
			}
			s.done++
			users.Go(func() {
				if err := deed.do(t.Context(), s.place.server, s.id); err != nil {
					t.Errorf("%s: %v", s, err)
				}
			})
		}
		users.Wait()
		if !waiting {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// untilHeld drives subjects to the states that they keep until the signal.
func untilHeld(t *testing.T, subjects []*subject) {
	t.Helper()
	held := make([]*subject, 0, len(subjects))
	for _, s := range subjects {
		if s.holds != "" {
			held = append(held, s)
		}
	}
	if drive(t, held, false, func(s *subject) bool { return s.state == s.holds }) {
		return
	}
	for _, s := range held {
		if s.state != s.holds {
			t.Errorf("%s is %s and should be %s:\n%s", s, s.state, s.holds, w.StoryOf(t.Context(), s.place.server, s.id))
		}
	}
}

// untilEnded drives subjects to their ends, or to any end.
func untilEnded(t *testing.T, subjects []*subject) {
	t.Helper()
	drive(t, subjects, true, func(s *subject) bool { return prefectserver.IsFinal(s.state) })
}
