package prefect

import (
	"context"
	"net/http"
	"time"
)

// Log is a line of a flow run's log. Level is a number of Python's logging.
type Log struct {
	Name      string    `json:"name"`
	Level     int       `json:"level"`
	Message   string    `json:"message"`
	Timestamp time.Time `json:"timestamp"`
	FlowRunID string    `json:"flow_run_id"`
}

// CreateLogs writes lines of any number of runs.
func (c *Client) CreateLogs(ctx context.Context, logs []Log) error {
	_, err := do[any](ctx, c, call{op: "write logs", method: http.MethodPost, path: "/logs/", body: logs})
	return err
}
