// Package prefect is a client of the Prefect REST API (servers 2.20 and 3.x),
// as far as dispatching flow runs needs it. Each endpoint has a file of its own,
// with its wire types beside the method; do is the only place that knows HTTP.
package prefect

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"slipway/internal/clock"
)

// Options of a Client.
type Options struct {
	URL        string            // PREFECT_API_URL, such as http://host:4200/api
	APIKey     string            // PREFECT_API_KEY: bearer
	AuthString string            // PREFECT_API_AUTH_STRING: basic; wins over APIKey
	Headers    map[string]string // PREFECT_CLIENT_CUSTOM_HEADERS; applied last
	Version    string            // Prefect version named in the User-Agent; "" means 3.8.8
	WorkerName string            // for the attribution header
	CSRF       bool              // PREFECT_CLIENT_CSRF_SUPPORT_ENABLED
	HTTP       *http.Client      // nil: NewHTTPClient with a minute's time-out
	MaxRetries int               // PREFECT_CLIENT_MAX_RETRIES: attempts beside the first

	Sleep func(ctx context.Context, d time.Duration) error // between attempts; nil: really
	Now   func() time.Time                                 // nil: time.Now
}

// Client is safe for concurrent use.
type Client struct {
	base    string
	http    *http.Client
	headers http.Header
	retry   retry
	csrf    *csrf
	clock   *clock.Clock
}

// Skew is how far the server's clock is ahead of this machine's; 0 before its
// first answer.
func (c *Client) Skew() time.Duration { return c.clock.Skew() }

// apiVersion is what Prefect 2.20 and 3.x clients send; servers refuse less
// than 0.8.0.
const apiVersion = "0.8.4"

// maxAnswer bounds what is read of one answer; 200 polled runs are 0.3 MB.
const maxAnswer = 64 << 20

// New checks the options and sends nothing.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("PREFECT_API_URL must be an http or https address such as http://host:4200/api")
	}
	c := &Client{
		base:    strings.TrimRight(o.URL, "/"),
		http:    o.HTTP,
		headers: headers(o),
		retry:   retry{max: o.MaxRetries, sleep: o.Sleep},
		clock:   &clock.Clock{Now: o.Now},
	}
	if c.http == nil {
		if c.http, err = NewHTTPClient(TLSOptions{}, time.Minute, 16); err != nil {
			return nil, err
		}
	}
	if c.retry.sleep == nil {
		c.retry.sleep = clock.Sleep
	}
	c.http = watched(c.http, c.clock)
	if o.CSRF {
		c.csrf = newCSRF()
	}
	return c, nil
}

func headers(o Options) http.Header {
	version := o.Version
	if version == "" {
		version = "3.8.8"
	}
	h := http.Header{}
	// The server reads the client's version out of this exact shape, and treats
	// concurrency leases differently for clients without one.
	h.Set("User-Agent", "prefect/"+version+" (API "+apiVersion+")")
	h.Set("X-PREFECT-API-VERSION", apiVersion)
	h.Set("Accept", "application/json")
	if o.WorkerName != "" {
		h.Set("X-Prefect-Worker-Name", o.WorkerName)
	}
	switch {
	case o.AuthString != "":
		// The server compares the scheme's case.
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(o.AuthString)))
	case o.APIKey != "":
		h.Set("Authorization", "Bearer "+o.APIKey)
	}
	for name, value := range o.Headers {
		switch http.CanonicalHeaderKey(name) {
		case "User-Agent", csrfTokenHeader, csrfClientHeader:
			// Protected, as in Prefect's own client.
		default:
			h.Set(name, value)
		}
	}
	return h
}

// call is one request of the API.
type call struct {
	op     string // "claim flow run ID": begins the error's text
	method string
	path   string // escaped, from the base on
	body   any    // encoded as JSON; nil: none
}

// do sends a call, repeating what may be repeated with the same body, and
// decodes the answer into Answer. Its errors are *Error.
func do[Answer any](ctx context.Context, c *Client, k call) (Answer, error) {
	var answer Answer
	body, err := c.send(ctx, k)
	if err != nil {
		return answer, err
	}
	if len(body) == 0 {
		return answer, nil
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, &Error{Op: k.op, Kind: Unavailable, Sent: true, Detail: "the answer is not what the Prefect API sends (is PREFECT_API_URL right, with its /api?)", Err: err}
	}
	return answer, nil
}

// send makes the attempts of a call.
func (c *Client) send(ctx context.Context, k call) ([]byte, error) {
	var payload []byte
	if k.body != nil {
		var err error
		if payload, err = json.Marshal(k.body); err != nil {
			return nil, &Error{Op: k.op, Kind: Internal, Detail: "encode the request", Err: err}
		}
	}
	sent := false
	for attempt := 0; ; attempt++ {
		body, failure := c.attempt(ctx, k, payload)
		if failure == nil {
			return body, nil
		}
		// Sent speaks of all attempts: an earlier one may have had its effect.
		sent = sent || failure.Sent
		failure.Sent = sent
		if !failure.again || attempt >= c.retry.max || ctx.Err() != nil {
			return nil, failure
		}
		if c.retry.sleep(ctx, c.retry.delay(attempt, failure.RetryAfter)) != nil {
			return nil, failure
		}
	}
}

// attempt sends a call once, with a CSRF token where one is needed.
func (c *Client) attempt(ctx context.Context, k call, payload []byte) ([]byte, *Error) {
	changes := k.method != http.MethodGet
	var token string
	if c.csrf != nil && changes {
		var failure *Error
		if token, failure = c.csrfToken(ctx, ""); failure != nil {
			return nil, failure
		}
	}
	body, failure := c.exchange(ctx, k, payload, token)
	if failure != nil && failure.Status == http.StatusForbidden && token != "" && strings.Contains(failure.Detail, "Invalid CSRF token") {
		if token, failure = c.csrfToken(ctx, token); failure != nil {
			return nil, failure
		}
		return c.exchange(ctx, k, payload, token)
	}
	return body, failure
}

// exchange is one request and its answer.
func (c *Client) exchange(ctx context.Context, k call, payload []byte, csrfToken string) ([]byte, *Error) {
	trace := &wire{}
	req, err := http.NewRequestWithContext(trace.watch(ctx), k.method, c.base+k.path, bytes.NewReader(payload))
	if err != nil {
		return nil, &Error{Op: k.op, Kind: Internal, Detail: "make the request", Err: err}
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
	if err != nil {
		return nil, noAnswer(k.op, err, trace.sent())
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, noAnswer(k.op, err, true)
	case resp.StatusCode >= 400:
		return nil, c.refusal(k.op, resp, body)
	case len(body) > maxAnswer:
		return nil, &Error{Op: k.op, Kind: Unavailable, Sent: true, Detail: fmt.Sprintf("the answer is larger than %d bytes", maxAnswer)}
	}
	return body, nil
}

// refusal reads an answer that is an error.
func (c *Client) refusal(op string, resp *http.Response, body []byte) *Error {
	if resp.StatusCode == http.StatusServiceUnavailable {
		// After a 503 the server was seen to reset the next request on the
		// same connection (2.20.25 and 3.8.8 on SQLite).
		c.http.CloseIdleConnections()
	}
	return fromStatus(op, resp.StatusCode, resp.Header.Get("Retry-After"), body)
}

// seg escapes one segment of a path.
func seg(s string) string { return url.PathEscape(s) }
