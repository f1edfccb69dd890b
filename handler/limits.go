package handler

import (
	"net/http"
	"time"
)

// Every size and time-out of the HTTP face.
const (
	// maxBody: a webhook's payload is a template of the user's; 1 MiB is far
	// more than any event, and little enough to hold.
	maxBody = 1 << 20
	// readHeader and readAll keep slow senders from holding connections.
	// Prefect's webhooks give up after 5 s, so no honest one needs more.
	readHeader = 5 * time.Second
	readAll    = 15 * time.Second
	// writeAll is the longest that a pass asked for by POST /v1/dispatch may
	// take before its connection is cut; the pass goes on.
	writeAll = 15 * time.Minute
	idle     = 75 * time.Second
	// maxHeaders is four times what net/http clients send at most in practice.
	maxHeaders = 32 << 10
	// trailing: Prefect may call a webhook before it has committed what the
	// webhook is about, so a second pass follows.
	trailing = time.Second
	// mostTrailing bounds the passes, a second apart, that wait for the pods of
	// cancelled runs to end: more than twice the usual grace period of 30 s.
	mostTrailing = 75
	// readyFor: probes come every few seconds from several places; the servers
	// behind are asked once in this time.
	readyFor     = 5 * time.Second
	readyTimeout = 4 * time.Second
)

// HTTPServer is a server with the limits above.
func HTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeader,
		ReadTimeout:       readAll,
		WriteTimeout:      writeAll,
		IdleTimeout:       idle,
		MaxHeaderBytes:    maxHeaders,
	}
}
