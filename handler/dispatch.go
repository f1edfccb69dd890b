package handler

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"slipway/dispatch"
)

// dispatchRequest is the optional body of POST /v1/dispatch. What it leaves out
// is as the settings have it.
type dispatchRequest struct {
	WorkPools  []string  `json:"work_pools"`
	WorkQueues []string  `json:"work_queues"`
	FlowRunIDs []string  `json:"flow_run_ids"`
	LookAhead  *duration `json:"look_ahead"`
	Limit      *int      `json:"limit"`
}

type dispatchAnswer struct {
	Passes []dispatch.Report `json:"passes"`
}

// duration is written as "60s" or as a number of seconds.
type duration time.Duration

// UnmarshalJSON reads either form.
func (d *duration) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		parsed, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("look_ahead: %q is not a duration such as \"60s\"", text)
		}
		*d = duration(parsed)
		return nil
	}
	var seconds float64
	if err := json.Unmarshal(data, &seconds); err != nil || seconds < -1e6 || seconds > 1e6 {
		return fmt.Errorf("look_ahead: must be a duration such as \"60s\" or a number of seconds")
	}
	*d = duration(seconds * float64(time.Second))
	return nil
}

// dispatch makes a pass while the caller waits. When the caller goes away, the
// claiming ends; claimed runs are finished.
func (s *Server) dispatch(c echo.Context, in dispatchRequest) (dispatchAnswer, error) {
	req, err := s.request(in)
	if err != nil {
		return dispatchAnswer{}, err
	}
	reports, err := s.pass(c.Request().Context(), req)
	if err != nil {
		return dispatchAnswer{}, &passError{reports: reports, err: err}
	}
	return dispatchAnswer{reports}, nil
}

// sweepRequest is the optional body of POST /v1/sweep.
type sweepRequest struct {
	WorkPools []string `json:"work_pools"`
	DryRun    bool     `json:"dry_run"`
}

type sweepAnswer struct {
	Sweeps []dispatch.SweepReport `json:"sweeps"`
}

// sweep repairs while the caller waits.
func (s *Server) sweep(c echo.Context, in sweepRequest) (sweepAnswer, error) {
	req, err := s.request(dispatchRequest{WorkPools: in.WorkPools})
	if err != nil {
		return sweepAnswer{}, err
	}
	reports, err := s.Passes.Sweep(c.Request().Context(), dispatch.SweepRequest{WorkPools: req.WorkPools, DryRun: in.DryRun})
	if !in.DryRun {
		for _, report := range reports {
			s.metrics.swept(report)
		}
	}
	if err != nil {
		return sweepAnswer{}, &passError{sweeps: reports, err: err}
	}
	return sweepAnswer{reports}, nil
}

// explain says why a flow run has not started.
func (s *Server) explain(c echo.Context) error {
	id, err := flowRunID(c)
	if err != nil {
		return err
	}
	explanation, err := s.Passes.Explain(c.Request().Context(), id)
	if err != nil {
		return &passError{err: err}
	}
	return c.JSON(http.StatusOK, explanation)
}

// job shows a flow run's Job.
func (s *Server) job(c echo.Context) error {
	id, err := flowRunID(c)
	if err != nil {
		return err
	}
	manifest, err := s.Passes.JobOf(c.Request().Context(), id)
	if err != nil {
		return &passError{err: err}
	}
	return c.JSONBlob(http.StatusOK, manifest)
}

func flowRunID(c echo.Context) (string, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return "", echo.NewHTTPError(http.StatusBadRequest, fmt.Sprintf("%q is not a flow run id", c.Param("id")))
	}
	return id.String(), nil
}

// request is a pass as the settings ask for it, with what a body changes.
func (s *Server) request(in dispatchRequest) (dispatch.Request, error) {
	req := s.Defaults
	bad := func(format string, args ...any) (dispatch.Request, error) {
		return req, echo.NewHTTPError(http.StatusBadRequest, fmt.Sprintf(format, args...))
	}
	for _, pool := range in.WorkPools {
		if !slices.Contains(s.Defaults.WorkPools, pool) {
			return bad("work_pools: %q is not among those of SLIPWAY_WORK_POOLS", pool)
		}
	}
	for _, id := range in.FlowRunIDs {
		if _, err := uuid.Parse(id); err != nil {
			return bad("flow_run_ids: %q is not a flow run id", id)
		}
	}
	if len(in.WorkPools) > 0 {
		req.WorkPools = in.WorkPools
	}
	if len(in.WorkQueues) > 0 {
		req.WorkQueues = in.WorkQueues
	}
	req.FlowRunIDs = in.FlowRunIDs
	if in.LookAhead != nil {
		req.LookAhead = time.Duration(*in.LookAhead)
	}
	if in.Limit != nil {
		req.Limit = *in.Limit
	}
	switch {
	case req.LookAhead < 0 || req.LookAhead > dispatch.MaxLookAhead:
		return bad("look_ahead: must be from 0 to %s", dispatch.MaxLookAhead)
	case req.Limit < 0:
		return bad("limit: must be at least 0")
	}
	return req, nil
}
