package handler

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// readiness keeps for a few seconds whether the servers answered.
type readiness struct {
	mu   sync.Mutex
	at   time.Time
	last error
}

func (r *readiness) ask(ctx context.Context, ready func(context.Context) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < readinessAge {
		return r.last
	}
	// The answer is for other callers too, so it does not depend on this one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	r.last = ready(ctx)
	r.at = time.Now()
	return r.last
}

// readyz answers 503 while this server drains, or while the Prefect server or the
// Kubernetes API server does not answer.
func (s *Server) readyz(c echo.Context) error {
	if s.draining.Load() {
		return echo.NewHTTPError(http.StatusServiceUnavailable, "draining")
	}
	if err := s.ready.ask(c.Request().Context(), s.Passes.Ready); err != nil {
		s.Log.Warn("not ready", "error", err.Error())
		return echo.NewHTTPError(http.StatusServiceUnavailable, "the Prefect server or the Kubernetes API server does not answer")
	}
	return c.String(http.StatusOK, "ok\n")
}
