package handler

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"
)

// hook receives a webhook of a Prefect automation. Prefect waits 5 s, takes any
// answer for success and never repeats a call. So each call triggers a pass, also one
// with a body that is empty, cut off or not JSON, and it is answered before the pass.
func (s *Server) hook(c echo.Context) error {
	s.metrics.hooks.Inc()
	body, _ := io.ReadAll(io.LimitReader(c.Request().Body, maxBodyBytes+1))
	if len(body) > maxBodyBytes {
		return tooLarge()
	}
	pools := s.poolsOf(body)
	if err := c.NoContent(http.StatusAccepted); err != nil {
		s.Log.Warn("a webhook's answer could not be sent", "error", err.Error())
	}
	c.Response().Flush()
	for _, pool := range pools {
		s.waker.wake(pool)
	}
	return nil
}

// poolsOf is the work pool that a payload names, if Slipway serves it, else all that
// it serves. Some senders encode a payload twice.
func (s *Server) poolsOf(body []byte) []string {
	var text string
	if json.Unmarshal(body, &text) == nil {
		body = []byte(text)
	}
	var payload struct {
		Pool         string `json:"pool"`
		WorkPool     string `json:"work_pool"`
		WorkPoolName string `json:"work_pool_name"`
	}
	if json.Unmarshal(body, &payload) == nil {
		for _, name := range []string{payload.Pool, payload.WorkPool, payload.WorkPoolName} {
			if slices.Contains(s.Defaults.WorkPools, name) {
				return []string{name}
			}
		}
	}
	return s.Defaults.WorkPools
}
