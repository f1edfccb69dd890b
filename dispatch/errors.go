package dispatch

import "errors"

// Kind sorts the errors that end a pass. The HTTP face maps it to a status, the
// command line to an exit code.
type Kind int

const (
	Internal    Kind = iota // a fault of Slipway's own; never shown outside
	Invalid                 // a setting or request is wrong: unknown work pool, wrong type
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
