package prefect

import (
	"context"
	"net/http"
)

// ServerVersion is the server's version, such as "3.8.8".
func (c *Client) ServerVersion(ctx context.Context) (string, error) {
	return do[string](ctx, c, call{op: "read the server's version", method: http.MethodGet, path: "/admin/version"})
}

// Health asks for the route that needs no credentials.
func (c *Client) Health(ctx context.Context) error {
	_, err := do[any](ctx, c, call{op: "read the server's health", method: http.MethodGet, path: "/health"})
	return err
}
