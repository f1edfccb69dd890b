// Package handler is Slipway's HTTP server: the passes of the command line, asked
// for by a webhook or curl.
package handler

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"slipway/dispatch"
)

// openapi describes all routes.
//
//go:embed openapi.yaml
var openapi []byte

// Passes is the core as the HTTP server uses it.
type Passes interface {
	// Dispatch makes a pass over each work pool of the request. Cancelling the
	// context ends the claiming; what is claimed is finished first.
	Dispatch(ctx context.Context, req dispatch.Request) ([]dispatch.Report, error)
	// Sweep repairs what killed dispatchers and lost Jobs left behind in each work
	// pool of the request.
	Sweep(ctx context.Context, req dispatch.SweepRequest) ([]dispatch.SweepReport, error)
	// Explain says why a flow run has not started.
	Explain(ctx context.Context, flowRunID string) (*dispatch.Explanation, error)
	// JobOf renders a flow run's Job, as JSON without secrets.
	JobOf(ctx context.Context, flowRunID string) ([]byte, error)
	// Ready reports whether both servers answer.
	Ready(ctx context.Context) error
}

// Options of a Server.
type Options struct {
	Passes   Passes
	Defaults dispatch.Request // of a pass; its work pools are the only ones served
	Tokens   func() []string  // the valid bearer tokens; none: no token is needed
	Log      *slog.Logger
	Registry *prometheus.Registry
	Version  any                                              // what /version answers
	Sleep    func(ctx context.Context, d time.Duration) error // before a trailing pass; nil: clock.Sleep
}

// Server is the HTTP server. Close it with Drain.
type Server struct {
	Options
	echo     *echo.Echo
	metrics  *metrics
	waker    *waker
	ready    readiness
	draining atomic.Bool
	// stopped ends the claiming of every pass when the server drains.
	stopped context.Context
	stop    context.CancelFunc
}

// New makes the routes and registers the metrics. It does not listen.
func New(o Options) *Server {
	s := &Server{Options: o, metrics: newMetrics(o.Registry), echo: echo.New()}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.waker = newWaker(s.stopped, o.Sleep, s.metrics.coalesced.Inc, s.wakePass)

	e := s.echo
	e.HideBanner = true
	e.HTTPErrorHandler = s.problem
	e.Use(s.contain)
	e.GET("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", s.readyz)
	e.GET("/version", func(c echo.Context) error { return c.JSON(http.StatusOK, o.Version) })
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{})))

	e.POST("/v1/dispatch", call(s.dispatch), s.authenticate)
	e.POST("/v1/sweep", call(s.sweep), s.authenticate)
	e.GET("/openapi.yaml", func(c echo.Context) error { return c.Blob(http.StatusOK, "application/yaml", openapi) })
	e.GET("/v1/explain/:id", s.explain, s.authenticate)
	e.GET("/v1/flow-runs/:id/job", s.job, s.authenticate)
	e.POST("/v1/hooks/prefect", s.hook, s.authenticate)
	return s
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Unready makes /readyz answer 503, so that no new request is sent here.
func (s *Server) Unready() { s.draining.Store(true) }

// Drain ends the claiming of all passes, and waits until those that webhooks
// started have finished the runs they claimed.
func (s *Server) Drain(ctx context.Context) error {
	s.Unready()
	s.stop()
	return s.waker.wait(ctx)
}

// pass makes one pass and counts it.
func (s *Server) pass(ctx context.Context, req dispatch.Request) ([]dispatch.Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopped, cancel)() //nolint:contextcheck // a second cause to stop, beside the caller's
	started := time.Now()
	reports, err := s.Passes.Dispatch(ctx, req)
	s.metrics.passed(reports, err, time.Since(started))
	return reports, err
}

// wakePass is the pass that a webhook asks for. It wants another one soon while a
// cancelled run's pod is ending.
func (s *Server) wakePass(ctx context.Context, pool string) (more bool) {
	defer func() {
		if r := recover(); r != nil {
			s.Log.Error("a pass panicked", "work_pool", pool, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	req := s.Defaults
	req.WorkPools = []string{pool}
	reports, err := s.pass(ctx, req)
	if err != nil {
		s.Log.Error("a pass ended early", "work_pool", pool, "error", err.Error())
	}
	return slices.ContainsFunc(reports, func(r dispatch.Report) bool { return r.Sweep != nil && r.Sweep.Ending })
}
