package prefect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

const (
	maxRequestBytes = 512 << 10 // of a request that writes many objects: half of what nginx takes by default
	maxRequestItems = 1000
)

// postAll writes objects in requests of bounded size. A request that is too large
// for the server (HTTP 413) is halved, and those behind it are no larger. One that
// fails does not keep the others from being sent, while ctx lasts.
func postAll[T any](ctx context.Context, c *Client, op, path string, items []T) error {
	var failures []error
	most := maxRequestBytes
	for len(items) > 0 {
		batch, size, err := encodeBatch(items, most)
		if err == nil {
			_, err = do[any](ctx, c, call{op: op, method: http.MethodPost, path: path, body: batch})
		}
		if isTooLarge(err) && len(batch) > 1 {
			most = size / 2
			continue
		}
		if err != nil && ctx.Err() != nil {
			return errors.Join(append(failures, fmt.Errorf("%d objects were not written: %w", len(items), err))...)
		}
		done := max(len(batch), 1)
		if err != nil {
			failures = append(failures, fmt.Errorf("%d objects were not written: %w", done, err))
		}
		items = items[done:]
	}
	return errors.Join(failures...)
}

// encodeBatch encodes the first items, as many as one request may hold, and at
// least one. size is the bytes that they take. An error is that of the first item.
func encodeBatch[T any](items []T, most int) (batch []json.RawMessage, size int, err error) {
	for _, item := range items[:min(len(items), maxRequestItems)] {
		text, err := json.Marshal(item)
		if err != nil && len(batch) == 0 {
			return nil, 0, err
		}
		if err != nil || len(batch) > 0 && size+len(text)+1 > most {
			break
		}
		batch, size = append(batch, text), size+len(text)+1
	}
	return batch, size, nil
}

func isTooLarge(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusRequestEntityTooLarge
}
