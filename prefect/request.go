package prefect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxAnswerBytes  = 64 << 20 // of one object; the server takes 512 KiB of parameters a run
	maxRefusalBytes = 2 << 20  // of an error answer, which may repeat the request
)

// call is one request of the API.
type call struct {
	op     string // "claim flow run ID": begins the error's text
	method string
	path   string // escaped, from the base on
	body   any    // encoded as JSON; nil: none
	once   bool   // never repeated, whatever the answer
}

// decoder reads an answer. It is called again for each attempt that is answered.
type decoder func(*answerReader) error

// do sends a call, repeating what may be repeated with the same body, and
// decodes the answer into Answer. Its errors are *Error.
func do[Answer any](ctx context.Context, c *Client, k call) (Answer, error) {
	var answer Answer
	err := c.send(ctx, k, c.pages.objectBytes, func(r *answerReader) error {
		var fresh Answer
		body, err := io.ReadAll(r)
		if err == nil && len(body) > 0 {
			err = json.Unmarshal(body, &fresh)
		}
		answer = fresh
		return err
	})
	return answer, err
}

// read is do for an answer that must be an object: there is none without an error.
func read[Answer any](ctx context.Context, c *Client, k call) (*Answer, error) {
	answer, err := do[*Answer](ctx, c, k)
	if err == nil && answer == nil {
		err = unexpected(k.op, errors.New("it is empty"))
	}
	return answer, err
}

// send makes the attempts of a call. At most maxBytes are read of an answer.
func (c *Client) send(ctx context.Context, k call, maxBytes int64, decode decoder) error {
	var payload []byte
	if k.body != nil {
		var err error
		if payload, err = json.Marshal(k.body); err != nil {
			return &Error{Op: k.op, Kind: Internal, Detail: "encode the request", Err: err}
		}
	}
	sent := false
	for attempt := 0; ; attempt++ {
		failure := c.attempt(ctx, k, payload, maxBytes, decode)
		if failure == nil {
			return nil
		}
		// Sent speaks of all attempts: an earlier one may have had its effect.
		sent = sent || failure.Sent
		failure.Sent = sent
		if k.once || !failure.again || attempt >= c.retry.max || ctx.Err() != nil {
			return failure
		}
		if c.retry.sleep(ctx, c.retry.delay(attempt, failure.RetryAfter)) != nil {
			return failure
		}
	}
}

// attempt sends a call once, with a CSRF token where one is needed. A request
// whose token is refused has had no effect, and goes out again with a new token.
func (c *Client) attempt(ctx context.Context, k call, payload []byte, maxBytes int64, decode decoder) *Error {
	changes := k.method != http.MethodGet
	var token string
	if c.csrf != nil && changes {
		var failure *Error
		if token, failure = c.csrfToken(ctx, ""); failure != nil {
			return failure
		}
	}
	failure := c.exchange(ctx, k, payload, token, maxBytes, decode)
	if failure != nil && failure.Status == http.StatusForbidden && token != "" && strings.Contains(failure.Detail, "Invalid CSRF token") {
		if token, failure = c.csrfToken(ctx, token); failure != nil {
			return failure
		}
		return c.exchange(ctx, k, payload, token, maxBytes, decode)
	}
	return failure
}

// exchange is one request and its answer.
func (c *Client) exchange(ctx context.Context, k call, payload []byte, csrfToken string, maxBytes int64, decode decoder) *Error {
	trace := &wire{}
	req, err := http.NewRequestWithContext(trace.watch(ctx), k.method, c.base+k.path, bytes.NewReader(payload))
	if err != nil {
		return &Error{Op: k.op, Kind: Internal, Detail: "make the request", Err: err}
	}
	req.Header = c.headers.Clone()
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if csrfToken != "" {
		req.Header.Set(csrfTokenHeader, csrfToken)
		req.Header.Set(csrfClientHeader, c.csrf.client)
	}
	resp, err := c.http.Do(req)
	if redirect, ok := errors.AsType[*redirectError](err); ok {
		return &Error{Op: k.op, Kind: Invalid, Err: redirect}
	}
	if err != nil {
		return noAnswer(k.op, err, trace.sent())
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 400 {
		return c.refusal(k.op, resp)
	}
	answer := &answerReader{body: resp.Body, left: maxBytes + 1}
	return answer.fault(k.op, decode(answer))
}

// refusal reads an answer that is an error.
func (c *Client) refusal(op string, resp *http.Response) *Error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusalBytes))
	if err != nil {
		return noAnswer(op, err, true)
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		// After a 503 the server was seen to reset the next request on the
		// same connection (2.20.25 and 3.8.8 on SQLite).
		c.http.CloseIdleConnections()
	}
	return fromStatus(op, resp.StatusCode, parseRetryAfter(resp.Header.Get("Retry-After"), c.now()), body)
}

// seg escapes one segment of a path.
func seg(s string) string { return url.PathEscape(s) }
