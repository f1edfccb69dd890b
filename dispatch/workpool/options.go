// Package workpool is one look at one work pool: a Session holds the servers, the
// settings, the template, what has been read, and the log lines to be sent.
package workpool

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"slipway/internal/clock"
	"slipway/internal/redact"
	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// Options are the settings of a dispatcher and the servers that it talks to.
type Options struct {
	Prefect  *prefect.Client
	Kube     *kube.Client
	Log      *slog.Logger
	Redactor *redact.Redactor // the process's; nil hides nothing

	WorkerName  string         // shown in the UI and in the Job's labels and environment
	Heartbeat   time.Duration  // whole seconds, at least the trigger's period: keeps the work pool READY
	Concurrency int            // flow runs of one work pool processed at once
	Deadline    time.Duration  // from the claim to the last attempt to create its Job
	PassTime    time.Duration  // time budget of a pass; 0: DefaultPassTime
	Cluster     string         // names the cluster in claims; "": the UID of the namespace kube-system
	RenderAs    render.Version // "": follows the server's version

	OrphanGrace        time.Duration // how old a claim without a Job must be before a sweep makes the Job; the same everywhere
	ForeignOrphanGrace time.Duration // and before it gives back one that is not Slipway's; 0: never
	SettleGrace        time.Duration // for an engine to report after its Job ended, to cancel a started run, and for leftovers
	Namespaces         []string      // where Jobs are; none: everywhere, or where the work pool says

	Adopt bool // manage the runs and Jobs of Python workers that are gone

	StartLimits   map[string]time.Duration // how long pods may be kept from starting, by diagnosis
	PodEvents     bool                     // emit the events of pods that do not start or crash
	CrashLogs     bool                     // copy the end of a crashed pod's log into its run's
	CrashLogLines int                      // so many lines of it

	Namespace string            // for Jobs, where neither template nor job variables name one
	Environ   map[string]string // of the process, for the renderer

	Now   func() time.Time                                 // nil: time.Now
	Sleep func(ctx context.Context, d time.Duration) error // between attempts; nil: really
}

// DefaultPassTime leaves a minute of the 300 s that the CronJob in deploy/ allows.
const DefaultPassTime = 240 * time.Second

// Servers opens sessions. It is safe for concurrent use, and keeps nothing
// between sessions but the cluster's id.
type Servers struct {
	Options Options

	mu      sync.Mutex
	cluster string
}

// New completes the options. It checks nothing and sends nothing.
func New(o Options) *Servers {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = clock.Sleep
	}
	if o.PassTime == 0 {
		o.PassTime = DefaultPassTime
	}
	return &Servers{Options: o, cluster: o.Cluster}
}

// ClusterID names the cluster in claims and in the pids of Prefect 2. Errors are
// *Error.
func (s *Servers) ClusterID(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster != "" {
		return s.cluster, nil
	}
	uid, err := s.Options.Kube.ClusterUID(ctx)
	if err != nil {
		return "", clusterError(ctx, err)
	}
	s.cluster = uid
	return uid, nil
}
