package prefect

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"

	"github.com/google/uuid"
)

const (
	csrfTokenHeader  = "Prefect-Csrf-Token"
	csrfClientHeader = "Prefect-Csrf-Client"
)

// csrf holds the token of this process. The id of the client is its own: a
// second token for the same id would void the first.
type csrf struct {
	client string

	mu    sync.Mutex
	asked bool
	token string // "" after asking: the server does not want any
}

func newCSRF() *csrf { return &csrf{client: uuid.NewString()} }

// csrfToken returns the token in use, after fetching one if there is none yet or
// the one in use is stale. "" means that the server has no CSRF protection.
func (c *Client) csrfToken(ctx context.Context, stale string) (string, *Error) {
	t := c.csrf
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked && (stale == "" || t.token != stale) {
		return t.token, nil
	}
	var answer struct {
		Token string `json:"token"`
	}
	failure := c.exchange(ctx, call{
		op:     "get a CSRF token",
		method: http.MethodGet,
		path:   "/csrf-token?client=" + url.QueryEscape(t.client),
	}, nil, "", maxRefusalBytes, func(r *answerReader) error {
		return json.NewDecoder(r).Decode(&answer)
	})
	if failure != nil {
		// 404 on servers without the route, 422 where it is switched off.
		if failure.Status == http.StatusNotFound || failure.Status == http.StatusUnprocessableEntity {
			t.asked, t.token = true, ""
			return "", nil
		}
		failure.Sent = false // nothing of the call itself was sent
		return "", failure
	}
	t.asked, t.token = true, answer.Token
	return t.token, nil
}
