package workpool

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

// ErrOutOfTime is the cause of a context that ends with the time budget of a pass.
var ErrOutOfTime = errors.New("the pass has used up its time (SLIPWAY_PASS_TIME)")

// Interrupt is the error of a context that is over.
func Interrupt(ctx context.Context) *Error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrOutOfTime) {
		return &Error{Kind: Unavailable, Message: "what is left waits for the next trigger", Err: cause}
	}
	return &Error{Kind: Interrupted, Message: "interrupted", Err: context.Cause(ctx)}
}

// PrefectError types a failed request to the Prefect server.
func PrefectError(ctx context.Context, doing string, err error) *Error {
	switch {
	case ctx.Err() != nil:
		return Interrupt(ctx)
	case prefect.IsDenied(err):
		return &Error{Kind: Denied, Message: doing + ": the Prefect server refuses the credentials (PREFECT_API_KEY, PREFECT_API_AUTH_STRING)", Err: err}
	case prefect.IsNotFound(err), prefect.IsInvalid(err):
		return &Error{Kind: Invalid, Message: doing, Err: err}
	case prefect.IsUnavailable(err):
		return &Error{Kind: Unavailable, Message: doing + ": the Prefect server cannot be reached or does not answer (PREFECT_API_URL)", Err: err}
	default:
		return &Error{Kind: Internal, Message: doing, Err: err}
	}
}

// NotFoundOr is PrefectError, but of kind NotFound if the object is not there.
func NotFoundOr(ctx context.Context, err error, what string) *Error {
	if prefect.IsNotFound(err) {
		return &Error{Kind: NotFound, Message: what + " does not exist", Err: err}
	}
	return PrefectError(ctx, "read "+what, err)
}

// clusterError types a failed read of the cluster's id.
func clusterError(ctx context.Context, err error) *Error {
	const doing = "name the cluster by the UID of the namespace kube-system"
	if ctx.Err() != nil {
		return Interrupt(ctx)
	}
	var e *kube.Error
	if errors.As(err, &e) && (e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized) {
		return &Error{Kind: Denied, Message: doing + ": allow the verb get on it, or set SLIPWAY_CLUSTER to a name of your own, the same in every trigger", Err: err}
	}
	return &Error{Kind: Unavailable, Message: doing + ": the Kubernetes API server cannot be reached or does not answer (KUBECONFIG)", Err: err}
}
