package dispatch

import (
	"context"
	"errors"
	"net/http"

	"slipway/kube"
	"slipway/prefect"
)

// Kind sorts the errors that end a pass. The HTTP face maps it to a status, the
// command line to an exit code.
type Kind int

const (
	Internal    Kind = iota // a fault of Slipway's own; never shown outside
	Invalid                 // a setting or request is wrong: unknown work pool, wrong type
	NotFound                // the flow run that was named, or its Job, does not exist
	Denied                  // a server refused the credentials
	Unavailable             // a server could not be reached or did not answer in time
	Interrupted             // the caller went away; claimed runs were finished first
)

// Error ends a pass. Its message is fit for a user: what was wrong, where, and
// what to do; it holds no secret.
type Error struct {
	Kind    Kind
	Message string
	Err     error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf finds the kind of an error; what is not typed is Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

func interrupted(ctx context.Context) *Error {
	return &Error{Kind: Interrupted, Message: "interrupted", Err: context.Cause(ctx)}
}

// prefectError types a failed read of the Prefect server.
func prefectError(ctx context.Context, doing string, err error) *Error {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	var e *prefect.Error
	if !errors.As(err, &e) {
		return &Error{Kind: Internal, Message: doing, Err: err}
	}
	switch e.Kind {
	case prefect.Denied:
		return &Error{Kind: Denied, Message: doing + ": the Prefect server refuses the credentials (PREFECT_API_KEY, PREFECT_API_AUTH_STRING)", Err: err}
	case prefect.NotFound, prefect.Invalid:
		return &Error{Kind: Invalid, Message: doing, Err: err}
	case prefect.Unavailable:
		return &Error{Kind: Unavailable, Message: doing + ": the Prefect server cannot be reached or does not answer (PREFECT_API_URL)", Err: err}
	default:
		return &Error{Kind: Internal, Message: doing, Err: err}
	}
}

// clusterError types a failed read of the cluster's id.
func clusterError(ctx context.Context, err error) *Error {
	const doing = "name the cluster by the UID of the namespace kube-system"
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	var e *kube.Error
	if errors.As(err, &e) && (e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized) {
		return &Error{Kind: Denied, Message: doing + ": allow the verb get on it, or set SLIPWAY_CLUSTER to a name of your own, the same in every trigger", Err: err}
	}
	return &Error{Kind: Unavailable, Message: doing + ": the Kubernetes API server cannot be reached or does not answer (KUBECONFIG)", Err: err}
}

// mayHaveHappened reports whether a request that failed can have had its effect.
func mayHaveHappened(err error) bool {
	var e *prefect.Error
	return !errors.As(err, &e) || e.Kind == prefect.Unavailable && e.Sent
}

// isNotFound reports whether the Prefect server knows no such object.
func isNotFound(err error) bool {
	var e *prefect.Error
	return errors.As(err, &e) && e.Kind == prefect.NotFound
}
