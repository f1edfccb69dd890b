package prefect_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"slipway/prefect"
	"slipway/prefect/prefecttest"
)

// logServer takes log lines in bodies up to a size and answers 413 to others.
type logServer struct {
	url    string
	most   int
	lines  []prefect.Log
	sizes  []int // of all bodies
	refuse func(lines []prefect.Log) int
}

func newLogServer(t *testing.T, most int) *logServer {
	s := &logServer{most: most}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL + "/api"
	return s
}

func (s *logServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.sizes = append(s.sizes, len(body))
	var lines []prefect.Log
	if err := json.Unmarshal(body, &lines); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if len(body) > s.most {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	if s.refuse != nil {
		if status := s.refuse(lines); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	s.lines = append(s.lines, lines...)
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, "null")
}

// line is a log line whose message is so long, its beginning a number.
func line(i, size int) prefect.Log {
	message := fmt.Sprintf("%06d ", i)
	return prefect.Log{Name: "n", Level: 40, Message: message + strings.Repeat("x", max(0, size-len(message))), Timestamp: time.Unix(int64(i), 0).UTC(), FlowRunID: "run"}
}

func TestCreateLogs(t *testing.T) {
	const anySize = 1 << 30
	for name, c := range map[string]struct {
		lines, size, most int
		requests          [2]int // from, to
		lost              int
	}{
		"none":                      {0, 0, anySize, [2]int{0, 0}, 0},
		"usual":                     {50, 100, anySize, [2]int{1, 1}, 0},
		"many short ones":           {2500, 20, anySize, [2]int{3, 3}, 0},
		"many long ones":            {200, 15_000, anySize, [2]int{6, 7}, 0},
		"a small body limit":        {200, 15_000, 100_000, [2]int{30, 60}, 0},
		"one line a request":        {20, 15_000, 16_000, [2]int{20, 40}, 0},
		"no line fits":              {20, 15_000, 10_000, [2]int{20, 40}, 20},
		"lines that become several": {4, 300_000, anySize, [2]int{3, 4}, 0},
	} {
		server := newLogServer(t, c.most)
		client, _ := dial(t, prefect.Options{URL: server.url})
		var lines []prefect.Log
		for i := range c.lines {
			lines = append(lines, line(i, c.size))
		}
		err := client.CreateLogs(t.Context(), lines)
		if (err != nil) != (c.lost > 0) {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(server.sizes); n < c.requests[0] || n > c.requests[1] {
			t.Errorf("%s: %d requests of sizes %v", name, n, server.sizes)
		}
		for _, size := range server.sizes {
			if size > 512<<10 {
				t.Errorf("%s: a request of %d bytes", name, size)
			}
		}
		if want, got := text(lines), text(server.lines); c.lost == 0 && got != want {
			t.Errorf("%s: %d bytes of messages arrived, want %d", name, len(got), len(want))
		}
	}
}

func text(lines []prefect.Log) string {
	var all strings.Builder
	for _, l := range lines {
		all.WriteString(l.Message)
	}
	return all.String()
}

func TestOneLargeLineLosesNoOther(t *testing.T) {
	server := newLogServer(t, 10_000)
	client, _ := dial(t, prefect.Options{URL: server.url})
	lines := []prefect.Log{line(0, 100), line(1, 15_000), line(2, 100), line(3, 15_000), line(4, 100)}
	err := client.CreateLogs(t.Context(), lines)
	if err == nil || strings.Count(err.Error(), "1 objects were not written") != 2 {
		t.Errorf("%v", err)
	}
	if got := text(server.lines); got != text([]prefect.Log{lines[0], lines[2], lines[4]}) {
		t.Errorf("arrived: %.300s", got)
	}
}

func TestRefusedRequestKeepsNoOtherBack(t *testing.T) {
	server := newLogServer(t, 1<<30)
	server.refuse = func(lines []prefect.Log) int {
		if strings.HasPrefix(lines[0].Message, "000000") {
			return http.StatusUnprocessableEntity
		}
		return 0
	}
	client, _ := dial(t, prefect.Options{URL: server.url})
	var lines []prefect.Log
	for i := range 2001 {
		lines = append(lines, line(i, 10))
	}
	err := client.CreateLogs(t.Context(), lines)
	if !prefect.IsInvalid(err) || !strings.Contains(err.Error(), "1000 objects were not written") || len(server.lines) != 1001 {
		t.Errorf("%d lines arrived: %v", len(server.lines), err)
	}
}

func TestCreateLogsEndsWithItsContext(t *testing.T) {
	server := newLogServer(t, 1<<30)
	ctx, cancel := context.WithCancel(t.Context())
	server.refuse = func([]prefect.Log) int { cancel(); return http.StatusServiceUnavailable }
	client, _ := dial(t, prefect.Options{URL: server.url, MaxRetries: 3})
	lines := make([]prefect.Log, 5000)
	if err := client.CreateLogs(ctx, lines); err == nil || !strings.Contains(err.Error(), "5000 objects") || len(server.sizes) != 1 {
		t.Errorf("%d requests: %v", len(server.sizes), err)
	}
}

func TestLongMessages(t *testing.T) {
	server := newLogServer(t, 1<<30)
	client, _ := dial(t, prefect.Options{URL: server.url})
	whole := line(7, 10)
	whole.Message = strings.Repeat(strings.Repeat("y", 999)+"\n", 60) + "\x00end"
	if err := client.CreateLogs(t.Context(), []prefect.Log{whole}); err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, l := range server.lines {
		if len(l.Message) > 20_000 || l.Level != whole.Level || !l.Timestamp.Equal(whole.Timestamp) || l.FlowRunID != whole.FlowRunID || l.Name != whole.Name {
			t.Errorf("%d bytes of %+v", len(l.Message), l.Timestamp)
		}
		parts = append(parts, l.Message)
	}
	if got, want := strings.Join(parts, "\n"), strings.ReplaceAll(whole.Message, "\x00", "\uFFFD"); got != want || len(parts) != 4 {
		t.Errorf("%d parts of %d bytes, want %d", len(parts), len(got), len(want))
	}
}

func TestFlowRunLogs(t *testing.T) {
	server := prefecttest.New(t)
	client, _ := dial(t, prefect.Options{URL: server.URL})
	if err := client.CreateLogs(t.Context(), []prefect.Log{line(1, 10), line(3, 10), line(2, 10)}); err != nil {
		t.Fatal(err)
	}
	lines, err := client.FlowRunLogs(t.Context(), "run")
	if err != nil || len(lines) != 3 || !strings.HasPrefix(lines[0].Message, "000003") {
		t.Errorf("%+v %v", lines, err)
	}
}

func TestEventsGoInRequestsOfBoundedSize(t *testing.T) {
	server := prefecttest.New(t)
	client, _ := dial(t, prefect.Options{URL: server.URL})
	var events []prefect.Event
	for i := range 1001 {
		events = append(events, prefect.Event{ID: fmt.Sprint(i), Event: "e", Resource: map[string]string{"prefect.resource.id": "r"}})
	}
	if err := client.CreateEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if n := len(server.Requests()); n != 2 || len(server.Events()) != 1001 {
		t.Errorf("%d requests, %d events", n, len(server.Events()))
	}
}
