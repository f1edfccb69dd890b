package kube

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

const (
	// maxAnswerBytes bounds every answer. A single object is below 3 MiB (the API
	// server's own limit); a page of a list that is larger is asked for again with
	// fewer items.
	maxAnswerBytes = 16 << 20
	// pageSize is how many items of a list are asked for at a time. A Job is about
	// 5 kB, so a page is about 2.5 MB.
	pageSize = 500
	// jobsPerSelector is how many Jobs a label selector names: it is part of a URL.
	jobsPerSelector = 50
	// maxLogBytes bounds the part of a container's log that is read.
	maxLogBytes = 256 << 10
)

// errAnswerTooLarge is the error of reading an answer beyond its bound.
var errAnswerTooLarge = errors.New("it is too large")

// boundAnswers bounds what can be read of all answers that a transport returns.
func (c *Client) boundAnswers(next http.RoundTripper) http.RoundTripper {
	return &boundedTransport{next, &c.maxAnswer}
}

type boundedTransport struct {
	next http.RoundTripper
	max  *int
}

// RoundTrip sends one request.
func (t *boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: *t.max, max: *t.max}
	}
	return resp, err
}

// CloseIdleConnections is called by the method of that name of http.Client.
func (t *boundedTransport) CloseIdleConnections() {
	if next, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// WrappedRoundTripper lets client-go find the transports behind this one.
func (t *boundedTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

type boundedBody struct {
	io.ReadCloser
	left, max int // bytes: those that may still be read, and all
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("%w: more than %d KiB", errAnswerTooLarge, b.max>>10)
	}
	return n, err
}
