package handler

import (
	"net/http"
	"time"
)

// Every size and time-out of the HTTP server.
const (
	// maxBodyBytes: a webhook's payload is a template of the user's; 1 MiB is far
	// more than any event, and fits into memory many times.
	maxBodyBytes = 1 << 20
	// readHeaderTimeout and readTimeout keep slow senders from holding connections.
	// Prefect's webhooks give up after 5 s, so no honest one needs more.
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	// writeTimeout is the longest that a pass asked for by POST /v1/dispatch may
	// take before its connection is cut; the pass goes on.
	writeTimeout = 15 * time.Minute
	idleTimeout  = 75 * time.Second
	// maxHeaderBytes is four times what net/http clients send at most in practice.
	maxHeaderBytes = 32 << 10
	// trailingDelay: Prefect may call a webhook before it has committed what the
	// webhook is about, so a second pass follows.
	trailingDelay = time.Second
	// maxTrailingPasses bounds the passes, a second apart, that wait for the pods of
	// cancelled runs to end: more than twice the usual grace period of 30 s.
	maxTrailingPasses = 75
	// readinessAge: probes come every few seconds from several places; the servers
	// behind are asked once in this time.
	readinessAge = 5 * time.Second
	readyTimeout = 4 * time.Second
)

// HTTPServer is a server with the limits above.
func HTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
}
