package prefect

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// WorkPool is a work pool.
type WorkPool struct {
	ID               string          `json:"id"`
	Name             string          `json:"name"`
	Type             string          `json:"type"`
	IsPaused         bool            `json:"is_paused"`
	ConcurrencyLimit *int            `json:"concurrency_limit"`
	Status           string          `json:"status"` // READY, NOT_READY, PAUSED
	Raw              json.RawMessage `json:"-"`      // the whole document, as sent
}

// UnmarshalJSON keeps the document beside the fields.
func (w *WorkPool) UnmarshalJSON(data []byte) error {
	type fields WorkPool
	return keepRaw(data, (*fields)(w), &w.Raw)
}

// WorkPool reads one work pool.
func (c *Client) WorkPool(ctx context.Context, name string) (*WorkPool, error) {
	return do[*WorkPool](ctx, c, call{op: "read work pool " + name, method: http.MethodGet, path: "/work_pools/" + seg(name)})
}

// WorkQueue is a work queue of a pool.
type WorkQueue struct {
	ID               string `json:"id"`
	Name             string `json:"name"`
	Priority         int    `json:"priority"` // 1 is served first
	IsPaused         bool   `json:"is_paused"`
	ConcurrencyLimit *int   `json:"concurrency_limit"`
}

// WorkQueues lists the queues of a pool, up to 200.
func (c *Client) WorkQueues(ctx context.Context, pool string) ([]WorkQueue, error) {
	return do[[]WorkQueue](ctx, c, call{
		op: "list the work queues of " + pool, method: http.MethodPost,
		path: "/work_pools/" + seg(pool) + "/queues/filter", body: map[string]any{"limit": 200},
	})
}

// Heartbeat shows a worker ONLINE, and with it the pool READY, for three times
// the interval. The server takes whole seconds; a fraction is rounded up.
func (c *Client) Heartbeat(ctx context.Context, pool, worker string, every time.Duration) error {
	seconds := int64((every + time.Second - 1) / time.Second)
	_, err := do[any](ctx, c, call{
		op: "send the heartbeat of worker " + worker, method: http.MethodPost,
		path: "/work_pools/" + seg(pool) + "/workers/heartbeat",
		body: map[string]any{"name": worker, "heartbeat_interval_seconds": seconds},
	})
	return err
}

// Worker is one that has sent heartbeats to a work pool.
type Worker struct {
	Name          string    `json:"name"`
	Status        string    `json:"status"` // ONLINE, OFFLINE
	LastHeartbeat time.Time `json:"last_heartbeat_time"`
}

// Workers lists those of a pool, up to 200.
func (c *Client) Workers(ctx context.Context, pool string) ([]Worker, error) {
	return do[[]Worker](ctx, c, call{
		op: "list the workers of " + pool, method: http.MethodPost,
		path: "/work_pools/" + seg(pool) + "/workers/filter", body: map[string]any{"limit": 200},
	})
}

// ScheduledRequest bounds a poll.
type ScheduledRequest struct {
	WorkQueueNames  []string  // none: every queue of the pool
	ScheduledBefore time.Time // inclusive; never left out: without it the poll has no bound
	ScheduledAfter  *time.Time
	Limit           int // 1 to 200
}

// ScheduledFlowRuns polls the runs that are due, by queue priority and then by
// start time. The server applies pauses and the limits of pool and queues here
// and nowhere else. The runs come without their state.
func (c *Client) ScheduledFlowRuns(ctx context.Context, pool string, r ScheduledRequest) ([]FlowRun, error) {
	body := map[string]any{
		"work_queue_names": append([]string{}, r.WorkQueueNames...),
		"scheduled_before": timestamp(r.ScheduledBefore),
		"limit":            r.Limit,
	}
	if r.ScheduledAfter != nil {
		body["scheduled_after"] = timestamp(*r.ScheduledAfter)
	}
	items, err := do[[]struct {
		FlowRun FlowRun `json:"flow_run"`
	}](ctx, c, call{
		op: "poll work pool " + pool, method: http.MethodPost,
		path: "/work_pools/" + seg(pool) + "/get_scheduled_flow_runs", body: body,
	})
	if err != nil {
		return nil, err
	}
	runs := make([]FlowRun, len(items))
	for i := range items {
		runs[i] = items[i].FlowRun
	}
	return runs, nil
}

// timestamp spells a time at the server's resolution.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// keepRaw decodes fields and keeps a copy of what they were decoded from.
func keepRaw(data []byte, fields any, raw *json.RawMessage) error {
	if err := json.Unmarshal(data, fields); err != nil {
		return err
	}
	*raw = append((*raw)[:0:0], data...)
	return nil
}
