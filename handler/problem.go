package handler

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/labstack/echo/v4"

	"slipway/dispatch"
)

// problem is an error as RFC 9457 has it.
type problem struct {
	Type   string                 `json:"type"`
	Title  string                 `json:"title"`
	Status int                    `json:"status"`
	Detail string                 `json:"detail,omitempty"`
	Passes []dispatch.Report      `json:"passes,omitempty"` // what was done before the error
	Sweeps []dispatch.SweepReport `json:"sweeps,omitempty"`
}

// statuses is the one place where kinds of errors become HTTP statuses.
var statuses = map[dispatch.Kind]int{
	dispatch.Invalid:     http.StatusBadRequest,
	dispatch.NotFound:    http.StatusNotFound,
	dispatch.Denied:      http.StatusBadGateway,
	dispatch.Unavailable: http.StatusServiceUnavailable,
	dispatch.Interrupted: http.StatusServiceUnavailable,
	dispatch.Internal:    http.StatusInternalServerError,
}

// passError is a pass that ended early.
type passError struct {
	reports []dispatch.Report
	sweeps  []dispatch.SweepReport
	err     error
}

func (e *passError) Error() string { return e.err.Error() }
func (e *passError) Unwrap() error { return e.err }

// problem answers every error, echo's own included.
func (s *Server) problem(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	p := s.describe(err)
	if p.Status == http.StatusServiceUnavailable {
		c.Response().Header().Set("Retry-After", "5")
	}
	body, encodeErr := json.Marshal(p)
	if encodeErr == nil {
		encodeErr = c.Blob(p.Status, "application/problem+json", body)
	}
	if encodeErr != nil {
		s.Log.Warn("an answer could not be sent", "error", encodeErr.Error())
	}
}

// describe shows what a caller may know. An error that is not typed is a fault of
// Slipway's own: it goes into the log, and the caller does not see it.
func (s *Server) describe(err error) problem {
	var http_ *echo.HTTPError
	var pass *passError
	var typed *dispatch.Error
	p := problem{Type: "about:blank", Status: http.StatusInternalServerError}
	switch {
	case errors.As(err, &pass) && errors.As(err, &typed):
		p.Status, p.Passes, p.Sweeps = statuses[typed.Kind], pass.reports, pass.sweeps
		if typed.Kind != dispatch.Internal {
			p.Detail = err.Error()
		}
	case errors.As(err, &http_):
		p.Status = http_.Code
		p.Detail = fmt.Sprint(http_.Message)
	}
	if p.Status == http.StatusInternalServerError {
		s.Log.Error("a request failed", "error", err.Error())
		p.Detail = ""
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// contain turns the panic of a request into an error.
func (s *Server) contain(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
		}()
		return next(c)
	}
}
