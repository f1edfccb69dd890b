package tests

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
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

// drain ends the pods of a run as `kubectl drain` does.
func drain(ctx context.Context, _ *prefectserver.Server, id string) error {
	core := w.Cluster.Client.CoreV1()
	found, err := core.Pods("").List(ctx, metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + id})
	if err != nil {
		return err
	}
	for _, pod := range found.Items {
		if err := core.Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
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
		found, err := server.FlowRuns(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
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

// judge holds subjects that have had their time to what is right for their kinds,
// and records a row. Jobs and deletions are those of names with a prefix.
func judge(t *testing.T, what, prefix string, faults int, subjects []*subject, note string) {
	t.Helper()
	look(t, subjects)
	row := proven{what: what, faults: faults, runs: len(subjects), jobs: jobsMade(t, prefix), note: note}
	executions, err := w.Executions()
	if err != nil {
		t.Fatal(err)
	}
	attempts, deleted := 0, jobsDeleted(t, prefix)
	for _, s := range subjects {
		attempts += s.attempts
		row.lost += max(0, s.attempts-executions[s.id])
		row.doubled += max(0, executions[s.id]-s.attempts)
		harm := s.harm(t, deleted)
		stuck := s.state != s.end && len(harm) == 0
		if len(harm) > 0 {
			row.harmed++
		} else if stuck {
			row.stuck++
		}
		if len(harm) > 0 || stuck || executions[s.id] != s.attempts {
			t.Errorf("%s is %s after %d executions, and should be %s after %d; %s\n%s", s, s.state, executions[s.id], s.end, s.attempts,
				strings.Join(harm, ", "), w.StoryOf(t.Context(), s.place.server, s.id))
		}
	}
	if row.jobs != attempts {
		t.Errorf("%s: the audit log has %d Jobs made for %d attempts", what, row.jobs, attempts)
		row.doubled = max(row.doubled, row.jobs-attempts)
	}
	if len(deleted) > 0 {
		t.Errorf("%s: Slipway deleted Jobs of nobody here: %v", what, deleted)
		row.harmed += len(deleted)
	}
	record(row)
}

// harm is what nothing in the kind of a run is a cause of: states in its history, and
// deletions of Jobs whose attempts were not over. It takes its Jobs from deleted.
func (s *subject) harm(t *testing.T, deleted map[string]time.Time) (harm []string) {
	t.Helper()
	states, err := s.place.server.States(t.Context(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	met := map[string]int{}
	for i, state := range states {
		for job, at := range deleted {
			if state.Type == "PENDING" && strings.Contains(state.Message, job) {
				delete(deleted, job)
				if !over(states[i+1:], at) {
					harm = append(harm, fmt.Sprintf("its Job %s was deleted at %s", job, at.Format("15:04:05.000")))
				}
			}
		}
		again := i > 0 && states[i-1].Type == state.Type // for CANCELLED: by two sweeps at once
		switch {
		case state.Name == "Late": // by the server; a busy one lists it after a claim that came later
		case again || i == 0:
		case state.Type == "SCHEDULED" || state.Type == "CRASHED" || state.Type == "CANCELLED":
			if met[state.Type]++; met[state.Type] > s.allowed[state.Type] {
				harm = append(harm, fmt.Sprintf("without cause it became %s: %s", state.Name, state.Message))
			}
		}
	}
	return harm
}

// over tells whether an attempt, of which these are the later states, was over at a
// time, or to be over: its Job may go then.
func over(later []prefectserver.State, at time.Time) bool {
	return slices.ContainsFunc(later, func(s prefectserver.State) bool {
		return s.Timestamp.Before(at) && (prefectserver.IsFinal(s.Type) || s.Type == "CANCELLING" || s.Name == "Suspended")
	})
}
