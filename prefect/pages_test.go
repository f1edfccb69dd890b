package prefect_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/prefect"
	"slipway/prefect/prefecttest"
)

// runsServer lists flow runs whose parameters have the sizes given, as their list and
// as their poll, by limit and offset. It notes the limits that it was asked for.
type runsServer struct {
	mu     sync.Mutex // a client that cuts an answer leaves its handler behind
	sizes  []int
	limits []int
}

func newRunsServer(t *testing.T, sizes ...int) (*prefect.Client, *runsServer) {
	t.Helper()
	s := &runsServer{sizes: sizes}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c, _ := dial(t, prefect.Options{URL: server.URL + "/api"})
	c.ShrinkAnswers()
	return c, s
}

// become changes the sizes.
func (s *runsServer) become(sizes []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes = sizes
}

func (s *runsServer) asked() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.limits)
}

func (s *runsServer) page(limit, offset int) (sizes []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = append(s.limits, limit)
	begin := min(offset, len(s.sizes))
	return s.sizes[begin:min(begin+limit, len(s.sizes))]
}

func (s *runsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Limit, Offset int }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, "[")
	for i, size := range s.page(asked.Limit, asked.Offset) {
		if i > 0 {
			_, _ = io.WriteString(w, ",")
		}
		run := fmt.Sprintf(`{"id":"run-%d","parameters":{"x":"%s"},"name":"n","state":{"type":"RUNNING"}}`, asked.Offset+i, strings.Repeat("x", size))
		if strings.HasSuffix(r.URL.Path, "/get_scheduled_flow_runs") {
			run = `{"flow_run":` + run + `}`
		}
		_, _ = io.WriteString(w, run)
	}
	_, _ = io.WriteString(w, "]")
}

func repeated(n, size int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

// unit is what a MiB is to a client with its usual bounds.
const unit = 1 << 20 / 256

func TestListsOfLargeObjects(t *testing.T) {
	for name, sizes := range map[string][]int{
		"small":                  repeated(405, 100),
		"larger than one answer": repeated(40, unit),
		"one alone":              append(repeated(30, 100), 20*unit, 100, 100),
		"the first alone":        append([]int{20 * unit}, repeated(300, 100)...),
	} {
		c, server := newRunsServer(t, sizes...)
		runs, err := c.FlowRuns(t.Context(), prefect.RunFilter{})
		if err != nil || len(runs) != len(sizes) {
			t.Errorf("%s: %d of %d runs, with limits %v: %v", name, len(runs), len(sizes), server.asked(), err)
		}
		for i, r := range runs {
			if r.ID != fmt.Sprintf("run-%d", i) || r.Raw != nil || r.State.Raw != nil || r.StateType != "" {
				t.Fatalf("%s: run %d is %+v", name, i, r)
			}
		}
		if limits := server.asked(); strings.Count(limits, " ") > 11 {
			t.Errorf("%s: limits %v", name, limits)
		}
	}
}

func TestPollOfLargeRuns(t *testing.T) {
	c, server := newRunsServer(t, repeated(200, unit/4)...)
	for range 2 {
		poll, err := c.ScheduledFlowRuns(t.Context(), "p", prefect.ScheduledRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(poll.Runs); n < 50 || n > 64 || !poll.Full {
			t.Errorf("%d runs, full %v", n, poll.Full)
		}
		for _, r := range poll.Runs {
			if r.Trimmed || len(r.Raw) < unit/4 {
				t.Fatalf("trimmed %v: %s", r.Trimmed, r.Raw)
			}
		}
	}
	if limits := server.asked(); limits != "[200 58]" {
		t.Errorf("asked with limits %s, want the second to be what fitted", limits)
	}
}

func TestPageSizeGrowsBack(t *testing.T) {
	c, server := newRunsServer(t, repeated(200, unit)...)
	for range 8 {
		if _, err := c.ScheduledFlowRuns(t.Context(), "p", prefect.ScheduledRequest{}); err != nil {
			t.Fatal(err)
		}
		server.become(repeated(200, 10))
	}
	if got, want := server.asked(), "[200 15 30 60 120 200 200 200]"; got != want {
		t.Errorf("limits %s, want %s", got, want)
	}
}

func TestObjectWithoutBound(t *testing.T) {
	c, server := newRunsServer(t, 65*unit)
	_, err := c.ScheduledFlowRuns(t.Context(), "p", prefect.ScheduledRequest{})
	if err == nil || !strings.Contains(err.Error(), "larger than 256 KiB, with object run-0") {
		t.Errorf("%v", err)
	}
	if server.asked() != "[200 1]" {
		t.Errorf("limits %s", server.asked())
	}
}

func TestAnswersAreBoundedDecompressed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		packed, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		blank := strings.Repeat(" ", unit)
		for range 65 {
			_, _ = io.WriteString(packed, blank)
		}
		_ = packed.Close()
	}))
	t.Cleanup(server.Close)
	c, _ := dial(t, prefect.Options{URL: server.URL + "/api", Headers: map[string]string{"Accept-Encoding": "gzip"}})
	c.ShrinkAnswers()
	if _, err := c.FlowRun(t.Context(), "id"); err == nil || !strings.Contains(err.Error(), "larger than 256 KiB") {
		t.Errorf("%v", err)
	}
}

func TestServerLimit(t *testing.T) {
	server := prefecttest.New(t, prefecttest.APILimit(3))
	server.AddPool("p", nil)
	due := time.Now().Add(-time.Minute)
	var runs, deployments []string
	for i := range 7 {
		deployments = append(deployments, server.AddDeployment("p", fmt.Sprint("flow ", i), "d", nil))
		runs = append(runs, server.AddRun(deployments[i], due, nil))
		server.AddQueue("p", fmt.Sprint("q", i), nil)
	}
	c, _ := dial(t, prefect.Options{URL: server.URL})
	poll, err := c.ScheduledFlowRuns(t.Context(), "p", prefect.ScheduledRequest{ScheduledBefore: time.Now()})
	if err != nil || len(poll.Runs) != 3 || !poll.Full {
		t.Fatalf("%+v %v", poll, err)
	}
	for name, list := range map[string]func() (int, error){
		"flow runs": func() (int, error) {
			found, err := c.FlowRuns(t.Context(), prefect.RunFilter{WorkPool: "p"})
			return len(found), err
		},
		"flow runs of ids": func() (int, error) {
			found, err := c.FlowRuns(t.Context(), prefect.RunFilter{IDs: runs})
			return len(found), err
		},
		"deployments":           func() (int, error) { found, err := c.Deployments(t.Context(), deployments); return len(found), err },
		"deployments of a pool": func() (int, error) { found, err := c.DeploymentsOfPool(t.Context(), "p"); return len(found), err },
		"queues":                func() (int, error) { found, err := c.WorkQueues(t.Context(), "p"); return len(found) - 1, err },
		"two at most plus five": func() (int, error) {
			found, err := c.FlowRuns(t.Context(), prefect.RunFilter{WorkPool: "p", Limit: 5})
			return len(found) + 2, err
		},
	} {
		if n, err := list(); n != 7 || err != nil {
			t.Errorf("%s: %d of 7: %v", name, n, err)
		}
	}
	refused := 0
	for _, r := range server.Requests() {
		if strings.Contains(string(r.Body), `"limit":200`) {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d requests asked for 200, want the first alone", refused)
	}
}

// A limit that cannot be met is an error, and no endless loop.
func TestServerLimitZero(t *testing.T) {
	server := prefecttest.New(t, prefecttest.APILimit(0))
	server.AddPool("p", nil)
	c, _ := dial(t, prefect.Options{URL: server.URL})
	_, err := c.ScheduledFlowRuns(t.Context(), "p", prefect.ScheduledRequest{ScheduledBefore: time.Now()})
	if !prefect.IsInvalid(err) || len(server.Requests()) != 1 {
		t.Errorf("%v after %d requests", err, len(server.Requests()))
	}
}

func TestCutConnectionIsNotAShortList(t *testing.T) {
	attempts := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if attempts++; attempts == 1 {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `[{"id":"a"},{"id":"b"},`)
			return
		}
		_, _ = io.WriteString(w, `[{"id":"a"},{"id":"b"},{"id":"c"}]`)
	}))
	t.Cleanup(server.Close)
	c, _ := dial(t, prefect.Options{URL: server.URL + "/api", MaxRetries: 1})
	runs, err := c.FlowRuns(t.Context(), prefect.RunFilter{})
	if err != nil || len(runs) != 3 || attempts != 2 {
		t.Errorf("%d runs after %d attempts: %v", len(runs), attempts, err)
	}
}

func TestAnswersOfAnotherShape(t *testing.T) {
	for body, ok := range map[string]bool{
		"[]": true, "[]\n": true, "null": true, `[{"id":"a"}]`: true,
		"": false, "{}": false, "[{}": false, "[{}] x": false, "[1]": false, "<html>": false,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		c, _ := dial(t, prefect.Options{URL: server.URL + "/api"})
		_, err := c.FlowRuns(t.Context(), prefect.RunFilter{})
		if (err == nil) != ok || err != nil && !prefect.IsUnavailable(err) {
			t.Errorf("%q: %v", body, err)
		}
		if run, err := c.FlowRun(t.Context(), "id"); run == nil && err == nil {
			t.Errorf("%q: neither a run nor an error", body)
		}
		server.Close()
	}
}
