package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/e2e/prefectserver"
)

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
