// Package contract pins the rules of a Prefect server that Slipway relies on, as
// seen over plain HTTP. The same table runs against prefecttest and against a
// real server, so that the one stays an honest stand-in for the other.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"slipway/prefect"
)

type doc = map[string]any

// Row is one rule. Section is that of the project's notes on the live servers.
type Row struct {
	Name    string
	Section string
	Run     func(t *T)
}

// T is what a row runs with: a server, and a place for its first fault.
type T struct {
	base   string
	client *http.Client
}

// fault ends a row.
type fault string

// busy ends a row whose server answered 503 or too late, which a server on SQLite
// does at light load and which says nothing about a rule.
type busy string

// mostBusy is how often a row is begun again, in a new world, after that.
const mostBusy = 20

// Check runs a row against a server whose address ends in /api, and returns the
// first fault, or "".
func Check(row Row, baseURL string) string {
	words, again := "", true
	for i := 0; again && i < mostBusy; i++ {
		time.Sleep(time.Duration(i) * 100 * time.Millisecond) // for what holds the database's lock
		words, again = attempt(row, baseURL)
	}
	return words
}

func attempt(row Row, baseURL string) (words string, again bool) {
	t := &T{base: baseURL, client: &http.Client{Timeout: 30 * time.Second}}
	defer t.client.CloseIdleConnections()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fault:
			words = string(r)
		case busy:
			words, again = string(r), true
		default:
			panic(r)
		}
	}()
	row.Run(t)
	return "", false
}

// Run runs every row as a test of its own.
func Run(t *testing.T, baseURL string) {
	for _, row := range Table {
		t.Run(row.Section+" "+row.Name, func(t *testing.T) {
			if words := Check(row, baseURL); words != "" {
				t.Error(words)
			}
		})
	}
}

func (t *T) failf(format string, args ...any) { panic(fault(fmt.Sprintf(format, args...))) }

// call sends a request and returns the status and the decoded answer.
func (t *T) call(method, path string, body any, headers ...string) (int, any) {
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			t.failf("%s %s: %v", method, path, err)
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, t.base+path, &payload)
	if err != nil {
		t.failf("%s %s: %v", method, path, err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := t.client.Do(req)
	if late, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && late.Timeout() {
		panic(busy(fmt.Sprintf("%s %s: %v", method, path, err)))
	}
	if err != nil {
		t.failf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusServiceUnavailable {
		panic(busy(fmt.Sprintf("%s %s: HTTP 503", method, path)))
	}
	var answer any
	_ = json.NewDecoder(resp.Body).Decode(&answer) // 204 has none
	return resp.StatusCode, answer
}

// expect is call with the one status that is right.
func (t *T) expect(want int, method, path string, body any, headers ...string) any {
	got, answer := t.call(method, path, body, headers...)
	if got != want {
		t.failf("%s %s: HTTP %d, want %d: %v", method, path, got, want, answer)
	}
	return answer
}

func (t *T) equal(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.failf("%s is %v, want %v", what, got, want)
	}
}

// at walks into a document.
func at(v any, path ...string) any {
	for _, key := range path {
		object, _ := v.(doc)
		v = object[key]
	}
	return v
}

// world is a pool with a deployment, of its own for each row.
type world struct {
	t                *T
	pool, deployment string
}

func (t *T) world(limits doc) world {
	w := world{t: t, pool: "contract-" + uuid.NewString()}
	t.expect(201, "POST", "/work_pools/", doc{"name": w.pool, "type": "kubernetes", "base_job_template": doc{}})
	flow := t.expect(201, "POST", "/flows/", doc{"name": w.pool})
	body := doc{"name": "d", "flow_id": at(flow, "id"), "work_pool_name": w.pool}
	for k, v := range limits {
		body[k] = v
	}
	w.deployment = at(t.expect(201, "POST", "/deployments/", body), "id").(string)
	return w
}

// run makes a scheduled run, due so long from now.
func (w world) run(due time.Duration) string {
	state := doc{"type": "SCHEDULED", "state_details": doc{"scheduled_time": prefect.Timestamp(time.Now().Add(due))}}
	return at(w.t.expect(201, "POST", "/deployments/"+w.deployment+"/create_flow_run", doc{"state": state}), "id").(string)
}

func (w world) poll(extra doc) []any {
	body := doc{"scheduled_before": prefect.Timestamp(time.Now())}
	for k, v := range extra {
		body[k] = v
	}
	items, _ := w.t.expect(200, "POST", "/work_pools/"+w.pool+"/get_scheduled_flow_runs", body).([]any)
	return items
}

// propose proposes a state and holds the answer's code and status to account.
func (w world) propose(code int, status, run string, state doc) doc {
	answer, _ := w.t.expect(code, "POST", "/flow_runs/"+run+"/set_state", doc{"state": state}).(doc)
	w.t.equal("status of "+fmt.Sprint(state), answer["status"], status)
	return answer
}

// claim is the state that claims a run.
func claim(id any) doc {
	return doc{"type": "PENDING", "name": "Pending", "state_details": doc{"transition_id": id}}
}
