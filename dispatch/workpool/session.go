package workpool

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"slipway/dispatch/claim"
	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// Session is one look at one work pool. It is safe for concurrent use.
type Session struct {
	Options Options
	Prefect *prefect.Client
	Kube    *kube.Client

	Pool     *prefect.WorkPool
	Server   string         // the Prefect server's version
	As       render.Version // the worker to imitate
	Cluster  string         // "" until NameCluster
	Template *render.Template
	Fault    error // the base job template's own; nil: it can be rendered

	servers  *Servers
	started  time.Time
	usesRun  bool // the template may name members of the flow run
	owners   owners
	docs     documents
	log      runLog
	mu       sync.Mutex
	warnings []string
	blocked  map[string]string // namespaces (or "": all) that take no Job now, and why
}

// Open opens a session for a work pool. Errors are *Error.
func (s *Servers) Open(ctx context.Context, pool string) (*Session, error) {
	session := s.Unopened(pool)
	return session, session.Open(ctx)
}

// Open reads the server's version and the work pool. Errors are *Error.
func (s *Session) Open(ctx context.Context) error {
	if err := s.readVersion(ctx); err != nil {
		return err
	}
	return s.readPool(ctx)
}

// Unopened is a session that has read nothing yet.
func (s *Servers) Unopened(pool string) *Session {
	return &Session{
		Options: s.Options, Prefect: s.Options.Prefect, Kube: s.Options.Kube,
		Pool: &prefect.WorkPool{Name: pool}, servers: s, started: s.Options.Now(),
		owners:  newOwners(),
		blocked: map[string]string{},
	}
}

// NameCluster learns the id of the dispatcher's cluster. Errors are *Error.
func (s *Session) NameCluster(ctx context.Context) (err error) {
	s.Cluster, err = s.servers.ClusterID(ctx)
	return err
}

// ServerNow is the Prefect server's time, which stamps due times and claims: the
// clock of this machine does not matter.
func (s *Session) ServerNow() time.Time { return s.Options.Now().Add(s.Prefect.Skew()) }

// KubeTime turns a time of the API server's clock into one of the Prefect server's.
func (s *Session) KubeTime(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(s.Prefect.Skew() - s.Kube.Skew())
}

// Took is the time since the session began.
func (s *Session) Took() time.Duration { return s.Options.Now().Sub(s.started) }

// Text is an error's text for others to read, without secrets.
func (s *Session) Text(err error) string { return s.Options.Redactor.Text(err.Error()) }

// Warn keeps a warning about the work pool as a whole.
func (s *Session) Warn(format string, args ...any) {
	text := s.Options.Redactor.Text(fmt.Sprintf(format, args...))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warnings = append(s.warnings, text)
}

// TakeWarnings returns the warnings so far, and forgets them.
func (s *Session) TakeWarnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.warnings
	s.warnings = nil
	return taken
}

// BlockNamespace keeps later runs of the pass from being claimed for a namespace
// that takes no Job now; "" stands for the whole API server.
func (s *Session) BlockNamespace(namespace, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked[namespace] = reason
}

// BlockedReason says why a namespace takes no Job now; "" if it does.
func (s *Session) BlockedReason(namespace string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reason := s.blocked[""]; reason != "" {
		return reason
	}
	return s.blocked[namespace]
}

// PID is how the infrastructure_pid of a Job is spelt for the server's own clean-up
// and the Python worker of that version.
func (s *Session) PID(p claim.Place) string {
	if s.As == render.V2 {
		return p.PID2(s.Cluster)
	}
	return p.PID()
}

// Identity is what marks the Job of a claim as that claim's and this work pool's.
func (s *Session) Identity(name, transitionID string) render.Identity {
	return render.Identity{
		Name:        name,
		Labels:      map[string]string{claim.LabelPool: strings.ToLower(s.Pool.ID)},
		Annotations: map[string]string{claim.AnnotationID: transitionID, claim.AnnotationCluster: s.Cluster},
	}
}

func (s *Session) readVersion(ctx context.Context) error {
	version, err := s.Prefect.ServerVersion(ctx)
	if err != nil {
		return PrefectError(ctx, "read the Prefect server's version", err)
	}
	s.Server = version
	switch {
	case s.Options.RenderAs != "":
		s.As = s.Options.RenderAs
	case strings.HasPrefix(version, "2."):
		s.As = render.V2
	default:
		s.As = render.V3
	}
	return nil
}

func (s *Session) readPool(ctx context.Context) error {
	name := s.Pool.Name
	pool, err := s.Prefect.WorkPool(ctx, name)
	if prefect.IsNotFound(err) {
		return &Error{Kind: Invalid, Message: fmt.Sprintf("work pool %q does not exist (SLIPWAY_WORK_POOLS): create it with `prefect work-pool create %s --type kubernetes`", name, name), Err: err}
	}
	if err != nil {
		return PrefectError(ctx, fmt.Sprintf("read work pool %q", name), err)
	}
	if pool.Type != "kubernetes" {
		return &Error{Kind: Invalid, Message: fmt.Sprintf("work pool %q is of type %q: Slipway serves pools of type kubernetes", name, pool.Type)}
	}
	s.Pool = pool
	s.usesRun = bytes.Contains(pool.Raw, []byte("ctx."))
	// A base job template that cannot be read crashes each due run, where its
	// owner will look for the reason, as the Python worker does.
	s.Template, s.Fault = render.Parse(pool.Raw, render.Options{
		As:             s.As,
		PrefectVersion: s.Server,
		PythonVersion:  "3.11",
		WorkerName:     s.Options.WorkerName,
		Environ:        s.Options.Environ,
		Namespace:      s.Options.Namespace,
	})
	return nil
}
