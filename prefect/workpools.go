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
	return read[WorkPool](ctx, c, call{op: "read work pool " + name, method: http.MethodGet, path: "/work_pools/" + seg(name)})
}

// WorkQueue is a work queue of a pool.
type WorkQueue struct {
	ID               string `json:"id"`
	Name             string `json:"name"`
	IsPaused         bool   `json:"is_paused"`
	ConcurrencyLimit *int   `json:"concurrency_limit"`
}

// WorkQueues lists the queues of a pool, by their priority.
func (c *Client) WorkQueues(ctx context.Context, pool string) ([]WorkQueue, error) {
	k := call{op: "list the work queues of " + pool, method: http.MethodPost, path: "/work_pools/" + seg(pool) + "/queues/filter"}
	return readAll[WorkQueue](ctx, c, k, map[string]any{}, 0)
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

// Workers lists those of a pool, up to 1000, the latest heartbeat first. A server
// keeps the workers that have gone.
func (c *Client) Workers(ctx context.Context, pool string) ([]Worker, error) {
	k := call{op: "list the workers of " + pool, method: http.MethodPost, path: "/work_pools/" + seg(pool) + "/workers/filter"}
	return readAll[Worker](ctx, c, k, map[string]any{}, 1000)
}
