// Package prefect is a client of the Prefect REST API (servers 2.20 and 3.x),
// as far as dispatching flow runs needs it. Each endpoint has a file of its own,
// with its wire types beside the method; request.go is the only place that knows
// HTTP, and pages.go the only one that knows how long a list's answer may be.
package prefect

import (
	"context"
	"encoding/base64"
	"fmt"
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
	now     func() time.Time
	pages   *pageSizes
}

// Skew is how far the server's clock is ahead of this machine's; 0 before its
// first answer.
func (c *Client) Skew() time.Duration { return c.clock.Skew() }

// apiVersion is what Prefect 2.20 and 3.x clients send; servers refuse less
// than 0.8.0.
const apiVersion = "0.8.4"

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
		now:     o.Now,
		pages:   newPageSizes(),
	}
	if c.now == nil {
		c.now = time.Now
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
		case "Accept-Encoding":
			// net/http decompresses only what it has asked for itself.
		default:
			h.Set(name, value)
		}
	}
	return h
}
