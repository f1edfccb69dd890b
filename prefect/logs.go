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

// Logs reads the newest lines of a run's log, the newest first, at most 200.
func (c *Client) Logs(ctx context.Context, run string) ([]Log, error) {
	return do[[]Log](ctx, c, call{op: "read the log of flow run " + run, method: http.MethodPost, path: "/logs/filter", body: map[string]any{
		"logs": map[string]any{"flow_run_id": map[string]any{"any_": []string{run}}}, "sort": "TIMESTAMP_DESC", "limit": most,
	}})
}
