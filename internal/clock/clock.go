// Package clock tells a server's time from the Date header of its answers: ages
// of claims and Jobs use the time of the server that stamped them.
package clock

import (
	"net/http"
	"sync/atomic"
	"time"
)

// coarse is what a Date header, in whole seconds, and a slow answer leave unsure:
// a lesser difference is none.
const coarse = 2 * time.Second

// Clock is safe for concurrent use. The zero value is of no difference.
type Clock struct {
	Now  func() time.Time // this machine's; nil: time.Now
	skew atomic.Int64
}

// Skew is how far the server's clock is ahead of this machine's, by its last
// answer; 0 before that and for less than two seconds.
func (c *Clock) Skew() time.Duration { return time.Duration(c.skew.Load()) }

// Watch reads the Date of all answers that a transport brings.
func (c *Clock) Watch(next http.RoundTripper) http.RoundTripper { return &transport{c, next} }

type transport struct {
	clock *Clock
	next  http.RoundTripper
}

// RoundTrip sends one request.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := t.clock.now()
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		t.clock.see(resp.Header.Get("Date"), sent, t.clock.now())
	}
	return resp, err
}

// CloseIdleConnections is what http.Client's method of that name looks for.
func (t *transport) CloseIdleConnections() {
	if next, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// WrappedRoundTripper is what client-go's own look for behind others.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

func (c *Clock) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// see takes the middle of the second that Date names for the server's time in the
// middle of the request.
func (c *Clock) see(date string, sent, received time.Time) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	took := received.Sub(sent)
	skew := at.Add(time.Second / 2).Sub(sent.Add(took / 2))
	switch {
	case skew.Abs() < coarse:
		c.skew.Store(0)
	case took < coarse:
		c.skew.Store(int64(skew))
	}
}
