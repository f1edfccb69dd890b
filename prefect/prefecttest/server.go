// Package prefecttest is a Prefect server for tests: real HTTP, everything in
// memory, with the rules of 3.8.8 that a dispatcher meets. Each rule has a name,
// and a test may leave one out to see that it is missed.
package prefecttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"slipway/prefect"
)

// Doc is a JSON object as the server stores and sends it.
type Doc = map[string]any

// Request is one line of the request log.
type Request struct {
	Method string
	Path   string // without the /api prefix
	Body   []byte
}

// Server is a running server. Its URL ends in /api.
type Server struct {
	URL string

	tb      testing.TB
	now     func() time.Time
	auth    string
	csrf    map[string]string // client to token; nil: switched off
	without []string
	limit   int // of one answer of a list or poll
	next    http.Handler

	mu        sync.Mutex
	intercept func(http.ResponseWriter, *http.Request) bool
	requests  []Request
	pools     []Doc
	queues    []Doc
	flows     []Doc
	deploys   []Doc
	runs      []Doc
	states    map[string][]Doc // by flow run, oldest first
	slots     map[string]bool  // runs that hold one of their deployment's slots
	logs      []Doc
	events    []Doc
	variables []Doc
	blocks    []Doc
	workers   map[string]Doc
}

// Option of New.
type Option func(*Server)

// Without leaves a rule out. New fails the test if no rule has that name.
func Without(rule string) Option { return func(s *Server) { s.without = append(s.without, rule) } }

// Clock replaces time.Now.
func Clock(now func() time.Time) Option { return func(s *Server) { s.now = now } }

// BasicAuth demands a user and password, "user:password".
func BasicAuth(auth string) Option { return func(s *Server) { s.auth = auth } }

// CSRF switches CSRF protection on.
func CSRF() Option { return func(s *Server) { s.csrf = map[string]string{} } }

// APILimit sets PREFECT_SERVER_API_DEFAULT_LIMIT, which is 200.
func APILimit(n int) Option { return func(s *Server) { s.limit = n } }

// New starts a server that ends with the test.
func New(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	s := &Server{tb: tb, now: time.Now, limit: 200, states: map[string][]Doc{}, slots: map[string]bool{}, workers: map[string]Doc{}}
	for _, o := range opts {
		o(s)
	}
	for _, name := range s.without {
		if !slices.Contains(Rules(), name) {
			tb.Fatalf("prefecttest: no rule is named %q", name)
		}
	}
	s.next = s.routes()
	server := httptest.NewServer(s)
	tb.Cleanup(server.Close)
	s.URL = server.URL + "/api"
	return s
}

// Intercept sees each request before the server does, and answers it itself if
// it returns true. nil takes it away.
func (s *Server) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// Serve answers a request past Intercept.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request) { s.next.ServeHTTP(w, r) }

// LoseAnswer lets a request have its effect and then breaks the connection, for
// use in Intercept.
func (s *Server) LoseAnswer(w http.ResponseWriter, r *http.Request) {
	s.Serve(httptest.NewRecorder(), r)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.tb.Errorf("prefecttest: hijack: %v", err)
		return
	}
	_ = conn.Close()
}

// Requests is the log of all requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	path := r.URL.Path
	if len(path) > 4 {
		path = path[4:]
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: path, Body: body})
	intercept := s.intercept
	s.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	s.Serve(w, r)
}

// fault is an error answer.
type fault struct {
	status int
	body   Doc
}

func (f *fault) Error() string { return fmt.Sprintf("HTTP %d: %v", f.status, f.body) }

func missing(words string) *fault { return &fault{http.StatusNotFound, Doc{"detail": words}} }

func invalid(kind, msg string, loc ...any) *fault {
	return &fault{http.StatusUnprocessableEntity, Doc{
		"exception_message": "Invalid request received.",
		"exception_detail":  []any{Doc{"type": kind, "loc": loc, "msg": msg}},
	}}
}

// answer writes a document; nil for no body.
func answer(w http.ResponseWriter, status int, body any) {
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have gone away
}

// endpoint answers a call, under the server's lock.
type endpoint func(r *http.Request, body Doc) (status int, answer any, f *fault)

func (s *Server) handle(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		body := Doc{}
		if data, _ := io.ReadAll(r.Body); len(data) > 0 {
			var value any
			if json.Unmarshal(data, &value) != nil {
				f := invalid("json_invalid", "JSON decode error", "body", 0)
				answer(w, f.status, f.body)
				return
			}
			if object, ok := value.(Doc); ok {
				body = object
			} else {
				body = Doc{"": value} // POST /logs/ sends an array
			}
		}
		status, out, f := e(r, body)
		if f != nil {
			answer(w, f.status, f.body)
			return
		}
		answer(w, status, out)
	}
}

func (s *Server) time() string { return prefect.Timestamp(s.now()) }

// stampOf reads a time of a request; "" if there is none.
func stampOf(v any) string {
	text, _ := v.(string)
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return ""
	}
	return prefect.Timestamp(t)
}
