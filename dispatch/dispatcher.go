// Package dispatch is the core of Slipway: one pass over a work pool that
// claims what is due, renders each Job, submits it, reports, and ends.
package dispatch

import "context"

// Dispatcher makes passes. It is safe for concurrent use and keeps nothing
// between passes: Prefect's server and the Kubernetes API server are the only
// state.
type Dispatcher struct{}

// Dispatch makes one pass over each work pool of the request, one after the
// other, and returns a report for each that was begun, even beside an error.
// Errors are *Error; the first pool's error does not keep the others from
// being served, and all are joined.
func (d *Dispatcher) Dispatch(ctx context.Context, req Request) ([]Report, error) { panic("stub") }

// Ready asks both servers for a cheap answer; nil means a pass would find them.
func (d *Dispatcher) Ready(ctx context.Context) error { panic("stub") }
