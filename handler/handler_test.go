package handler

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sigs.k8s.io/yaml"

	"slipway/dispatch"
)

// passes is the core as function fields.
type passes struct {
	dispatch func(context.Context, dispatch.Request) ([]dispatch.Report, error)
	ready    func(context.Context) error
	rows     []dispatch.SweepRow // of each sweep
}

func (p passes) Dispatch(ctx context.Context, r dispatch.Request) ([]dispatch.Report, error) {
	if p.dispatch == nil {
		return []dispatch.Report{{Pool: r.WorkPools[0], Submitted: 1, Runs: []dispatch.RunReport{}}}, nil
	}
	return p.dispatch(ctx, r)
}

func (p passes) Sweep(_ context.Context, r dispatch.SweepRequest) ([]dispatch.SweepReport, error) {
	name := r.WorkPools[0]
	if r.DryRun {
		name += " dry"
	}
	return []dispatch.SweepReport{{Pool: name, Rows: slices.Concat([]dispatch.SweepRow{}, p.rows)}}, nil
}

func (p passes) Explain(_ context.Context, id string) (*dispatch.Explanation, error) {
	if id == "00000000-0000-0000-0000-000000000000" {
		return nil, &dispatch.Error{Kind: dispatch.NotFound, Message: "flow run " + id + " does not exist"}
	}
	return &dispatch.Explanation{ID: id, Reasons: []string{"it is not due"}}, nil
}

func (p passes) JobOf(context.Context, string) ([]byte, error) {
	return []byte(`{"kind":"Job"}`), nil
}

func (p passes) Ready(ctx context.Context) error {
	if p.ready == nil {
		return nil
	}
	return p.ready(ctx)
}

func server(p passes, tokens ...string) *Server {
	return New(Options{
		Passes:   p,
		Defaults: dispatch.Request{WorkPools: []string{"a", "b"}, LookAhead: time.Minute},
		Tokens:   func() []string { return tokens },
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
		Registry: prometheus.NewRegistry(),
		Version:  map[string]string{"slipway": "test"},
	})
}

func ask(s *Server, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	for _, c := range []struct {
		method, path, body string
		header             []string
		status             int
		contains           string
	}{
		{"GET", "/livez", "", nil, 200, "ok"},
		{"GET", "/readyz", "", nil, 200, "ok"},
		{"GET", "/version", "", nil, 200, `"slipway":"test"`},
		{"GET", "/metrics", "", nil, 200, "slipway_hooks_total 0"},
		{"POST", "/v1/dispatch", "", nil, 200, `{"passes":[{"pool":"a"`},
		{"POST", "/v1/dispatch", `{"work_pools":["b"],"limit":3,"look_ahead":"30s"}`, nil, 200, `"pool":"b"`},
		{"POST", "/v1/dispatch", `{"look_ahead":30}`, nil, 200, `"pool":"a"`},
		{"POST", "/v1/dispatch", `{"limits":3}`, nil, 400, `unknown field \"limits\"`},
		{"POST", "/v1/dispatch", `{"limit":-1}`, nil, 400, "limit: must be at least 0"},
		{"POST", "/v1/dispatch", `{"look_ahead":"1h"}`, nil, 400, "look_ahead: must be from 0 to 4m0s"},
		{"POST", "/v1/dispatch", `{"look_ahead":"soon"}`, nil, 400, "look_ahead"},
		{"POST", "/v1/dispatch", `{"work_pools":["c"]}`, nil, 400, "SLIPWAY_WORK_POOLS"},
		{"POST", "/v1/dispatch", `{"flow_run_ids":["x"]}`, nil, 400, "not a flow run id"},
		{"POST", "/v1/dispatch", `{"limit":1} {}`, nil, 400, "text after"},
		{"POST", "/v1/dispatch", `{"limit"`, nil, 400, "not what is expected"},
		{"POST", "/v1/dispatch", `a=b`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		{"POST", "/v1/dispatch", strings.Repeat(" ", maxBodyBytes+1), nil, 413, "larger than"},
		{"POST", "/v1/sweep", `{"work_pools":["b"],"dry_run":true}`, nil, 200, `{"sweeps":[{"pool":"b dry"`},
		{"POST", "/v1/sweep", `{"work_pools":["c"]}`, nil, 400, "SLIPWAY_WORK_POOLS"},
		{"GET", "/v1/dispatch", "", nil, 405, "Method Not Allowed"},
		{"GET", "/nothing", "", nil, 404, "Not Found"},
	} {
		t.Run(c.method+" "+c.path+" "+c.body[:min(len(c.body), 30)], func(t *testing.T) {
			w := ask(server(passes{}), c.method, c.path, c.body, c.header...)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.contains) {
				t.Errorf("%d %s; want %d and %q", w.Code, w.Body, c.status, c.contains)
			}
			if c.status >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("content type %q", w.Header().Get("Content-Type"))
			}
		})
	}
}

func TestRequestOfABody(t *testing.T) {
	var got dispatch.Request
	s := server(passes{dispatch: func(_ context.Context, r dispatch.Request) ([]dispatch.Report, error) {
		got = r
		return nil, nil
	}})
	ask(s, "POST", "/v1/dispatch", `{"work_pools":["b"],"work_queues":["q"],"flow_run_ids":["11111111-1111-4111-8111-111111111111"],"look_ahead":"0s","limit":7}`)
	if fmt.Sprint(got) != "{[b] [q] [11111111-1111-4111-8111-111111111111] 0s false 7}" {
		t.Errorf("the pass asked for is %v", got)
	}
}

func TestErrorsOfAPass(t *testing.T) {
	for kind, status := range map[dispatch.Kind]int{
		dispatch.Invalid: 400, dispatch.NotFound: 404, dispatch.Denied: 502, dispatch.Unavailable: 503, dispatch.Interrupted: 503, dispatch.Internal: 500,
	} {
		s := server(passes{dispatch: func(context.Context, dispatch.Request) ([]dispatch.Report, error) {
			return []dispatch.Report{{Pool: "a", Submitted: 2}}, &dispatch.Error{Kind: kind, Message: "what happened"}
		}})
		w := ask(s, "POST", "/v1/dispatch", "")
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if w.Code != status || p.Status != status || len(p.Passes) != 1 || p.Passes[0].Submitted != 2 {
			t.Errorf("kind %d: %d %s", kind, w.Code, w.Body)
		}
		if shown := strings.Contains(p.Detail, "what happened"); shown == (kind == dispatch.Internal) {
			t.Errorf("kind %d: detail %q", kind, p.Detail)
		}
		if (w.Header().Get("Retry-After") != "") != (status == 503) {
			t.Errorf("kind %d: Retry-After %q", kind, w.Header().Get("Retry-After"))
		}
	}
}

// TestRepairsAreCounted: those of POST /v1/sweep and of the sweep within a pass are,
// and neither a dry run nor what is left alone.
func TestRepairsAreCounted(t *testing.T) {
	rows := []dispatch.SweepRow{
		{Action: dispatch.CreateJob, Done: true}, {Action: dispatch.Crash, Done: true}, {Action: dispatch.Crash, Done: true}, {Action: dispatch.Crash},
		{Action: dispatch.DeleteJob, Done: true}, {Action: dispatch.LeaveAlone}, {Action: dispatch.Tell, Done: true},
	}
	s := server(passes{rows: rows, dispatch: func(context.Context, dispatch.Request) ([]dispatch.Report, error) {
		return []dispatch.Report{{Pool: "b", Sweep: &dispatch.SweepReport{Pool: "b", Rows: rows}}, {Pool: "a"}}, nil
	}})
	for _, call := range [][2]string{{"/v1/sweep", ""}, {"/v1/sweep", ""}, {"/v1/sweep", `{"dry_run":true}`}, {"/v1/dispatch", ""}} {
		if w := ask(s, "POST", call[0], call[1]); w.Code != 200 {
			t.Fatalf("%s: %d", call[0], w.Code)
		}
	}
	text := ask(s, "GET", "/metrics", "").Body.String()
	for _, want := range []string{
		`slipway_repairs_total{action="crash",result="done",work_pool="a"} 4`,
		`slipway_repairs_total{action="crash",result="failed",work_pool="a"} 2`,
		`slipway_repairs_total{action="create",result="done",work_pool="a"} 2`,
		`slipway_repairs_total{action="delete Job",result="done",work_pool="b"} 1`,
		`slipway_repairs_total{action="crash",result="failed",work_pool="b"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	for _, not := range []string{`action="none"`, `action="report"`, "dry"} {
		if strings.Contains(text, not) {
			t.Errorf("%s is counted", not)
		}
	}
}

func TestPanicIsContained(t *testing.T) {
	s := server(passes{dispatch: func(context.Context, dispatch.Request) ([]dispatch.Report, error) { panic("secret inside") }})
	if w := ask(s, "POST", "/v1/dispatch", ""); w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s, "POST", "/v1/hooks/prefect", ""); w.Code != 202 {
		t.Errorf("hook: %d", w.Code)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTokens(t *testing.T) {
	s := server(passes{}, "old", "new")
	for _, c := range []struct {
		header string
		status int
	}{{"Bearer old", 200}, {"bearer new", 200}, {"Bearer nope", 401}, {"Bearer ", 401}, {"Basic old", 401}, {"", 401}, {"old", 401}} {
		w := ask(s, "POST", "/v1/dispatch", "", "Authorization", c.header)
		if w.Code != c.status || (c.status == 401) != (w.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%q: %d", c.header, w.Code)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/version", "/metrics"} {
		if w := ask(s, "GET", path, ""); w.Code != 200 {
			t.Errorf("%s without a token: %d", path, w.Code)
		}
	}
	if w := ask(s, "POST", "/v1/hooks/prefect", "{}"); w.Code != 401 {
		t.Errorf("hook without a token: %d", w.Code)
	}
}

func TestReadiness(t *testing.T) {
	s := server(passes{ready: func(context.Context) error { return errors.New("no route to 10.0.0.1") }})
	if w := ask(s, "GET", "/readyz", ""); w.Code != 503 || strings.Contains(w.Body.String(), "10.0.0.1") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	s = server(passes{})
	s.Unready()
	if w := ask(s, "GET", "/readyz", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "draining") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestPoolsOfAHook(t *testing.T) {
	s := server(passes{})
	for body, want := range map[string]string{
		``: "[a b]", `{}`: "[a b]", `{"pool":"b"}`: "[b]", `{"work_pool":"a"}`: "[a]", `{"work_pool_name":"b"}`: "[b]",
		`{"pool":"other"}`: "[a b]", `"{\"pool\":\"b\"}"`: "[b]", `{"pool":`: "[a b]", `[1]`: "[a b]", `"b"`: "[a b]",
	} {
		if got := fmt.Sprint(s.poolsOf([]byte(body))); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestExplain(t *testing.T) {
	s := server(passes{})
	for id, want := range map[string]int{"9e9fab33-0000-4000-8000-000000000001": 200, "nonsense": 400, "00000000-0000-0000-0000-000000000000": 404} {
		if w := ask(s, "GET", "/v1/explain/"+id, ""); w.Code != want || want == 200 && !strings.Contains(w.Body.String(), "it is not due") {
			t.Errorf("%s: %d %s", id, w.Code, w.Body)
		}
	}
}

// TestOpenAPI: the document has every route, and none that is not there.
func TestOpenAPI(t *testing.T) {
	s := server(passes{})
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := yaml.UnmarshalStrict(ask(s, "GET", "/openapi.yaml", "").Body.Bytes(), &map[string]any{}); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(openapi, &document); err != nil {
		t.Fatal(err)
	}
	routes := 0
	for _, r := range s.echo.Routes() {
		routes++
		if path := strings.ReplaceAll(r.Path, ":id", "{id}"); document.Paths[path][strings.ToLower(r.Method)] == nil {
			t.Errorf("%s %s is not described", r.Method, path)
		}
	}
	for _, methods := range document.Paths {
		routes -= len(methods)
	}
	if routes != 0 {
		t.Errorf("%d routes more than are described", routes)
	}
	if w := ask(s, "GET", "/v1/flow-runs/9e9fab33-0000-4000-8000-000000000001/job", ""); w.Code != 200 || w.Body.String() != `{"kind":"Job"}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestHooksCoalesce: the answer comes before the pass; hooks during a pass are
// answered by one more; a burst ends with a trailing pass a second later.
func TestHooksCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count, running, most atomic.Int64
		release := make(chan struct{})
		s := server(passes{dispatch: func(context.Context, dispatch.Request) ([]dispatch.Report, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			count.Add(1)
			<-release
			return nil, nil
		}})
		for range 50 {
			if w := ask(s, "POST", "/v1/hooks/prefect", `{"pool":"a"}`); w.Code != http.StatusAccepted {
				t.Fatalf("hook: %d", w.Code)
			}
		}
		synctest.Wait()
		if count.Load() != 1 {
			t.Errorf("%d passes run at once", count.Load())
		}
		close(release)
		started := time.Now()
		if err := s.waker.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if count.Load() != 2 || most.Load() != 1 || time.Since(started) != trailingDelay {
			t.Errorf("%d passes, %d at once, after %s; want 2, 1, %s", count.Load(), most.Load(), time.Since(started), trailingDelay)
		}
		ask(s, "POST", "/v1/hooks/prefect", `{"pool":"a"}`)
		_ = s.waker.wait(t.Context())
		if count.Load() != 4 {
			t.Errorf("a hook after the burst: %d passes in all, want 4", count.Load())
		}
	})
}

// TestHookSeesCancellationsThrough: while a cancelled run's pod is ending, passes
// follow one another, and not for ever.
func TestHookSeesCancellationsThrough(t *testing.T) {
	for name, c := range map[string]struct{ ends, want int64 }{"ends": {5, 5}, "never ends": {1000, maxTrailingPasses}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var count atomic.Int64
				s := server(passes{dispatch: func(context.Context, dispatch.Request) ([]dispatch.Report, error) {
					return []dispatch.Report{{Sweep: &dispatch.SweepReport{Ending: count.Add(1) < c.ends}}}, nil
				}})
				ask(s, "POST", "/v1/hooks/prefect", `{"pool":"a"}`)
				if err := s.waker.wait(t.Context()); err != nil || count.Load() != c.want {
					t.Errorf("%d passes, want %d, %v", count.Load(), c.want, err)
				}
			})
		})
	}
}

// TestDrain: the claiming ends, what runs is waited for, and later hooks start
// nothing.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int64
		s := server(passes{dispatch: func(ctx context.Context, _ dispatch.Request) ([]dispatch.Report, error) {
			count.Add(1)
			<-ctx.Done()
			time.Sleep(3 * time.Second) // the runs that are claimed
			return nil, ctx.Err()
		}})
		ask(s, "POST", "/v1/hooks/prefect", `{"pool":"a"}`)
		synctest.Wait()
		started := time.Now()
		if err := s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Since(started) != 3*time.Second || count.Load() != 1 {
			t.Errorf("drained after %s and %d passes", time.Since(started), count.Load())
		}
		if w := ask(s, "POST", "/v1/hooks/prefect", `{"pool":"a"}`); w.Code != 202 || count.Load() != 1 {
			t.Errorf("after the drain: %d, %d passes", w.Code, count.Load())
		}
	})
}

// TestCutBody: Prefect was seen to promise 26 bytes and send none.
func TestCutBody(t *testing.T) {
	woken := make(chan string, 4)
	s := server(passes{dispatch: func(_ context.Context, r dispatch.Request) ([]dispatch.Report, error) {
		woken <- r.WorkPools[0]
		return nil, nil
	}})
	web := httptest.NewServer(s)
	defer web.Close()
	conn, err := net.Dial("tcp", web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "POST /v1/hooks/prefect HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\n{\"po")
	_ = conn.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("status %d", resp.StatusCode)
	}
	if pools := []string{<-woken, <-woken}; pools[0] == pools[1] {
		t.Errorf("woken: %v, want both pools", pools)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

func FuzzBodies(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"pool":"a"}`, `"{}"`, `{"limit":1e9}`, `{"look_ahead":"1s"}`, "\xff", `{"work_pools":[null]}`} {
		f.Add(seed)
	}
	s := server(passes{})
	f.Fuzz(func(t *testing.T, body string) {
		if w := ask(s, "POST", "/v1/hooks/prefect", body); w.Code != 202 && w.Code != 413 {
			t.Errorf("hook: %d", w.Code)
		}
		if w := ask(s, "POST", "/v1/dispatch", body); w.Code != 200 && w.Code != 400 && w.Code != 413 {
			t.Errorf("dispatch: %d %s", w.Code, w.Body)
		}
	})
}
