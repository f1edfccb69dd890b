package prefect

import (
	"context"
	"net/http"
)

// Flow reads one flow.
func (c *Client) Flow(ctx context.Context, id string) (*Flow, error) {
	return read[Flow](ctx, c, call{op: "read flow " + id, method: http.MethodGet, path: "/flows/" + seg(id)})
}
