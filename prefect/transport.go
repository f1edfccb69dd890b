package prefect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"time"

	"slipway/internal/clock"
)

// TLSOptions of the connection to the server.
type TLSOptions struct {
	InsecureSkipVerify bool   // PREFECT_API_TLS_INSECURE_SKIP_VERIFY
	CAFile             string // PREFECT_API_SSL_CERT_FILE: PEM; replaces the system's roots
}

// NewHTTPClient makes the client's transport: proxies come from the environment,
// as net/http and Prefect's own client read it. timeout is for one request,
// answer included; maxConns bounds the connections to the server. It follows no
// redirect to another origin.
func NewHTTPClient(o TLSOptions, timeout time.Duration, maxConns int) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxConnsPerHost = maxConns
	transport.MaxIdleConnsPerHost = maxConns
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.InsecureSkipVerify} //nolint:gosec // asked for by name
	if o.CAFile != "" && !o.InsecureSkipVerify {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("PREFECT_API_SSL_CERT_FILE: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("PREFECT_API_SSL_CERT_FILE: %s holds no PEM certificate", o.CAFile)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	return &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: sameOrigin}, nil
}

// watched lets a clock see the answers of a client, which is not changed.
func watched(client *http.Client, c *clock.Clock) *http.Client {
	again := *client
	next := again.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	again.Transport = c.Watch(next)
	return &again
}

// wire notes whether a request found a connection to travel on.
type wire struct{ connected atomic.Bool }

func (w *wire) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { w.connected.Store(true) },
	})
}

func (w *wire) sent() bool { return w.connected.Load() }

// retry says how often and when a call is repeated.
type retry struct {
	max   int
	sleep func(ctx context.Context, d time.Duration) error
}

const (
	firstDelay    = 250 * time.Millisecond
	mostDelay     = 4 * time.Second
	mostRequested = 30 * time.Second // of a Retry-After: the next trigger is near
)

// delay grows from a quarter of a second to four; it is never shorter than what
// the server asks for, and at most a fifth longer, so that a crowd spreads.
func (r retry) delay(attempt int, asked time.Duration) time.Duration {
	base := min(firstDelay<<min(attempt, 10), mostDelay)
	if asked > 0 {
		base = min(asked, mostRequested)
	}
	return base + time.Duration(rand.Int64N(int64(base)/5+1)) //nolint:gosec // jitter
}
