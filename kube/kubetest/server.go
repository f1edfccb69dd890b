// Package kubetest is a Kubernetes API server for tests, with what package kube
// uses of one: real HTTP, everything in memory. It has no controllers. Package
// contract compares it with a real API server.
package kubetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// ClusterUID is the UID of the namespace kube-system.
const ClusterUID = "c1c1c1c1-0000-4000-8000-000000000001"

// Doc is a JSON object.
type Doc = map[string]any

// Request is one line of the request log.
type Request struct{ Method, Path string }

// Server is a running server.
type Server struct {
	tb   testing.TB
	http *httptest.Server
	next http.Handler

	mu         sync.Mutex
	intercept  func(http.ResponseWriter, *http.Request) bool
	requests   []Request
	namespaces map[string]bool
	objects    map[string]Doc // "jobs/<namespace>/<name>"
	created    int
	denied     []string // "verb resource" that reviews of access answer no to
	listings   int      // continue tokens of an earlier number have expired
}

// New starts a server with these namespaces beside kube-system and default. It
// ends with the test.
func New(tb testing.TB, namespaces ...string) *Server {
	s := &Server{tb: tb, namespaces: map[string]bool{"kube-system": true, "default": true}, objects: map[string]Doc{}}
	for _, n := range namespaces {
		s.namespaces[n] = true
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", s.locked(func(http.ResponseWriter, *http.Request) (int, Doc) { return 200, Doc{"gitVersion": "v1.36.3"} }))
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}", s.locked(s.namespace))
	mux.HandleFunc("GET /apis/batch/v1/jobs", s.locked(s.list))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", s.locked(s.review))
	for _, root := range []string{"/api/v1", "/apis/batch/v1"} {
		collection := root + "/namespaces/{namespace}/{resource}"
		mux.HandleFunc("POST "+collection, s.locked(s.create))
		mux.HandleFunc("GET "+collection, s.locked(s.list))
		mux.HandleFunc("GET "+collection+"/{name}", s.locked(s.get))
		mux.HandleFunc("PATCH "+collection+"/{name}", s.locked(s.get))
		mux.HandleFunc("DELETE "+collection+"/{name}", s.locked(s.delete))
	}
	s.next = mux
	s.http = httptest.NewServer(s)
	tb.Cleanup(s.http.Close)
	return s
}

// Config is a client's configuration.
func (s *Server) Config() *rest.Config { return &rest.Config{Host: s.http.URL} }

// Intercept lets f see each request before the server does. If f returns true, it
// has answered the request itself. nil ends it.
func (s *Server) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// LoseAnswer lets a request have its effect and then breaks the connection.
func (s *Server) LoseAnswer(w http.ResponseWriter, r *http.Request) {
	s.next.ServeHTTP(httptest.NewRecorder(), r)
	s.Break(w)
}

// Break breaks a connection without an answer.
func (s *Server) Break(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.tb.Errorf("kubetest: hijack: %v", err)
		return
	}
	_ = conn.Close()
}

// Refuse writes a Status as the API server does.
func Refuse(w http.ResponseWriter, code int, reason, message string, details Doc) {
	write(w, code, status(code, reason, message, details))
}

// Requests is the log of all requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Jobs are the Jobs that exist, by namespace/name.
func (s *Server) Jobs() map[string]Doc { return s.all("jobs/") }

// Secrets are the Secrets that exist, by namespace/name.
func (s *Server) Secrets() map[string]Doc { return s.all("secrets/") }

func (s *Server) all(prefix string) map[string]Doc {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]Doc{}
	for key, object := range s.objects {
		if name, is := strings.CutPrefix(key, prefix); is {
			found[name] = object
		}
	}
	return found
}

// ServeHTTP logs a request, offers it to Intercept, and answers it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	s.requests = append(s.requests, Request{r.Method, r.URL.Path})
	intercept := s.intercept
	s.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	s.next.ServeHTTP(w, r)
}

func (s *Server) locked(f func(http.ResponseWriter, *http.Request) (int, Doc)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		code, body := f(w, r)
		write(w, code, body)
	}
}

func write(w http.ResponseWriter, code int, body Doc) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client may have gone away
}

func status(code int, reason, message string, details Doc) Doc {
	return Doc{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message, "details": details}
}

func (s *Server) namespace(_ http.ResponseWriter, r *http.Request) (int, Doc) {
	name := r.PathValue("namespace")
	if !s.namespaces[name] {
		return noNamespace(name)
	}
	return 200, Doc{"kind": "Namespace", "apiVersion": "v1", "metadata": Doc{"name": name, "uid": ClusterUID}}
}

func noNamespace(name string) (int, Doc) {
	return 404, status(404, "NotFound", fmt.Sprintf("namespaces %q not found", name), Doc{"name": name, "kind": "namespaces"})
}

// Deny makes reviews of access answer no. It denies nothing.
func (s *Server) Deny(verb, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = append(s.denied, verb+" "+resource)
}

func (s *Server) review(_ http.ResponseWriter, r *http.Request) (int, Doc) {
	var review Doc
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		return 400, status(400, "BadRequest", err.Error(), nil)
	}
	asked := dig(review, "spec", "resourceAttributes")
	review["status"] = Doc{"allowed": !slices.Contains(s.denied, fmt.Sprint(asked["verb"], " ", asked["resource"]))}
	return 201, review
}

// Change edits a stored object, as a controller would: "jobs/<namespace>/<name>".
func (s *Server) Change(key string, edit func(Doc)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object, there := s.objects[key]
	if !there {
		s.tb.Fatalf("kubetest: there is no %s", key)
	}
	edit(object)
}

// Remove deletes an object, as the TTL controller or an operator would.
func (s *Server) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
}

func dig(object Doc, keys ...string) Doc {
	for _, key := range keys {
		object, _ = object[key].(Doc)
	}
	return object
}
