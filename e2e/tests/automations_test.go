package tests

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/e2e/prefectserver"
)

// automate runs `slipway automations` with the arguments, for a token.
func automate(t *testing.T, pool string, args ...string) string {
	t.Helper()
	result, err := w.SlipwayWith(t.Context(), []string{"SLIPWAY_AUTH_TOKENS=hush"}, append([]string{"automations", "--work-pool", pool}, args...)...)
	if err != nil || result.Code != 0 {
		t.Fatalf("slipway ended with %d (%v):\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	return result.Stdout
}

// TestAutomations: with nothing but webhooks, a run that is made ends in a Job, a
// cancelled one loses its pod, and a full deployment makes no loop.
func TestAutomations(t *testing.T) {
	t.Parallel() // it mostly waits
	d := pool(t, "auto", nil)
	gate := newCutter(t) // counts what Slipway asks of Prefect
	var polls times
	gate.on = func(_ int, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/get_scheduled_flow_runs") {
			polls.add()
		}
	}
	address := serve(t, "auto", "PREFECT_API_URL="+gate.prefect.URL+"/api", "SLIPWAY_LOOK_AHEAD=0s")
	apply := []string{"apply", "--url", address + "/v1/hooks/prefect", "--only", "scheduled,cancelling,ended"}
	if out := automate(t, "auto", apply...); strings.Count(out, "created") != 4 {
		t.Errorf("the first time:\n%s", out)
	}
	if out := automate(t, "auto", apply...); strings.Count(out, "unchanged") != 4 {
		t.Errorf("the second time:\n%s", out)
	}
	if out := automate(t, "auto"); !strings.Contains(out, "slipway: cancelling in auto") || strings.Contains(out, "does not exist yet") {
		t.Errorf("printed:\n%s", out)
	}
	t.Run("a late run", func(t *testing.T) { late(t, d) })
	t.Run("a run made by hand", func(t *testing.T) { madeByHand(t, d) })
	t.Run("a cancellation", func(t *testing.T) { cancelledInUI(t, "auto") })
	t.Run("a full deployment makes no loop", func(t *testing.T) {
		end := signal(filepath.Join(w.Dir, "auto-full")) // outlives the test, as its runs do
		defer end.give(t)
		full := deploy(t, "auto", "auto-full", map[string]any{"env": map[string]string{"PROBE_UNTIL": string(end)}}, map[string]any{"concurrency_limit": 1})
		ids := runs(t, full, 3, time.Now())
		eventually(t, "a run that waits for a slot", func() bool {
			run, err := w.Prefect.FlowRun(t.Context(), ids[2])
			return err == nil && (run.StateName == "AwaitingConcurrencySlot" || run.StateType == "RUNNING")
		})
		// The creations cause polls, and each waiting run one when it becomes due again. A
		// loop would never be quiet.
		const quiet = 12 * time.Second
		since := time.Now()
		eventually(t, "12 s with at most 6 polls, while nothing happens", func() bool {
			return time.Since(since) > quiet && polls.since(time.Now().Add(-quiet)) <= 6
		})
	})
	t.Run("a ticker", func(t *testing.T) {
		automate(t, "auto-other", apply...) // another pool, the same block
		automate(t, "auto", "apply", "--url", address+"/v1/hooks/prefect", "--only", "tick", "--tick", "10s")
		out := automate(t, "auto", "apply", "--delete")
		if strings.Count(out, "deleted") != 3 || !strings.Contains(out, "\"slipway: tick\": stays") || !strings.Contains(out, "block webhook/slipway: stays, automation \"slipway: cancelling in auto-other\" calls") {
			t.Errorf("deleted:\n%s", out)
		}
		id := runs(t, d, 1, time.Now())[0]
		eventually(t, "its Job", func() bool { return len(jobsOf(t, id)) == 1 })
		completed(t, []string{id})
	})
	if out := automate(t, "auto-other", "apply", "--delete"); strings.Count(out, "deleted") != 5 {
		t.Errorf("deleted:\n%s", out)
	}
}

// madeByHand makes runs as the UI does, and waits for their Jobs. The triggers service
// takes up new automations within seconds.
func madeByHand(t *testing.T, deployment string) {
	t.Helper()
	for range 3 {
		started := time.Now()
		id := runs(t, deployment, 1, started)[0]
		eventually(t, "its Job", func() bool { return len(jobsOf(t, id)) == 1 })
		took := time.Since(started)
		completed(t, []string{id})
		t.Logf("its Job is there after %s", took.Round(10*time.Millisecond))
	}
}

// late makes a run whose creation wakes Slipway in vain, for it is not due yet: only
// that the server calls it Late wakes Slipway again. On a busy machine the event of the
// creation may come when the run is due; then another run is made, with more time.
func late(t *testing.T, deployment string) {
	t.Helper()
	var states []prefectserver.State
	for ahead := 15 * time.Second; ahead <= 4*time.Minute; ahead *= 2 {
		id := runs(t, deployment, 1, time.Now().Add(ahead))[0]
		eventually(t, "its Job", func() bool { return len(jobsOf(t, id)) == 1 })
		completed(t, []string{id})
		var err error
		if states, err = w.Prefect.States(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(states, func(s prefectserver.State) bool { return s.Name == "Late" }) {
			return
		}
	}
	t.Errorf("it was never Late: %v", states)
}

// times is when something happened.
type times struct {
	mu  sync.Mutex
	all []time.Time
}

func (l *times) add() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, time.Now())
}

// since counts from a time on.
func (l *times) since(start time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, at := range l.all {
		if !at.Before(start) {
			n++
		}
	}
	return n
}

// cancelledInUI cancels a run that would go on for long.
func cancelledInUI(t *testing.T, pool string) {
	t.Helper()
	long := deploy(t, pool, pool+"-long", map[string]any{"env": map[string]string{"PROBE_SECONDS": "600"}}, nil)
	id := runs(t, long, 1, time.Now())[0]
	running(t, id)
	call(t, "POST", "/flow_runs/"+id+"/set_state", map[string]any{"state": map[string]any{"type": "CANCELLING"}, "force": true})
	eventually(t, "CANCELLED", func() bool { return stateOf(t, id) == "CANCELLED" })
	if jobs := jobsOf(t, id); len(jobs) != 0 {
		t.Errorf("Jobs are left: %v", jobs)
	}
}

// TestAutomations2: 2.20 has automations where its events are switched on, and says so
// where they are not.
func TestAutomations2(t *testing.T) {
	t.Run("off", func(t *testing.T) {
		onPrefect2(t)
		result, err := w.SlipwayWith(t.Context(), []string{"SLIPWAY_AUTH_TOKENS=hush"}, "automations", "apply", "--work-pool", "two-off")
		if err != nil || result.Code != 2 || !strings.Contains(result.Stderr, "PREFECT_EXPERIMENTAL_EVENTS=true") {
			t.Errorf("slipway ended with %d (%v):\n%s", result.Code, err, result.Stderr)
		}
	})
	onPrefect2(t, "PREFECT_EXPERIMENTAL_EVENTS=true")
	d := pool(t, "two-auto", nil)
	address := serve(t, "two-auto")
	apply := []string{"apply", "--url", address + "/v1/hooks/prefect"}
	if out := automate(t, "two-auto", apply...); strings.Count(out, "created") != 5 {
		t.Errorf("the first time:\n%s", out)
	}
	if out := automate(t, "two-auto", apply...); strings.Count(out, "unchanged") != 5 {
		t.Errorf("the second time:\n%s", out)
	}
	madeByHand(t, d)
	cancelledInUI(t, "two-auto")
	if out := automate(t, "two-auto", "apply", "--delete"); strings.Count(out, "deleted") != 5 {
		t.Errorf("deleted:\n%s", out)
	}
}
