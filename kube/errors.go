package kube

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kind says what a failed request means for the object that was asked for.
type Kind int

const (
	// Unknown: the request may or may not have had its effect (time-out, reset, 5xx).
	Unknown Kind = iota
	// NotDone: it had no effect, and may well succeed later (refused
	// connection, 401, 429, quota, namespace terminating).
	NotDone
	// Refused: it had no effect, and the same request never will (400, 413,
	// 422, no such namespace, forbidden by RBAC or admission).
	Refused
	// Exists: an object of that name is there already.
	Exists
	// NotFound: the object named is not there.
	NotFound
)

// Error is a failed request.
type Error struct {
	Op         string // "create Job dev/hello-x1"
	Kind       Kind
	Status     int           // HTTP; 0: no answer
	RetryAfter time.Duration // as the server asked; 0: it did not
	Err        error         // the server's words
}

func (e *Error) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s: %v (HTTP %d)", e.Op, e.Err, e.Status)
}

func (e *Error) Unwrap() error { return e.Err }

// Forbidden tells whether the API server's authorizer refused the request, and not
// an admission plug-in, which answers 403 too.
func (e *Error) Forbidden() bool {
	return e.Status == http.StatusForbidden && e.Kind == Refused && strings.Contains(e.Err.Error(), " cannot ")
}

// KindOf is Unknown for errors that are not of this package: the cautious reading.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unknown
}

// classify reads client-go's error. connected says whether the request had a
// connection to travel on; without one it cannot have reached the server.
func classify(op string, err error, connected bool) *Error {
	e := &Error{Op: op, Err: err}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		if !connected {
			e.Kind = NotDone
		}
		return e
	}
	s := status.Status()
	e.Status = int(s.Code)
	e.Kind = kindOfStatus(s, err)
	if s.Details != nil {
		e.RetryAfter = time.Duration(s.Details.RetryAfterSeconds) * time.Second
	}
	return e
}

func kindOfStatus(s metav1.Status, err error) Kind {
	switch code := int(s.Code); {
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return Refused
	case code == http.StatusNotFound:
		return kindOfNotFound(s)
	case code == http.StatusForbidden:
		return kindOfForbidden(s, err)
	case code == http.StatusConflict && s.Reason == metav1.StatusReasonAlreadyExists:
		return Exists
	case code == http.StatusConflict, code == http.StatusRequestTimeout:
		return Unknown
	case code >= 400 && code < 500:
		// 401 and 429 above all; a proxy's other refusals did nothing either.
		return NotDone
	default:
		return Unknown
	}
}

// kindOfNotFound: a create in a namespace that is not there answers 404 about
// the namespace; an API that is not served (a proxy's page, a server starting
// up) answers 404 about nothing.
func kindOfNotFound(s metav1.Status) Kind {
	switch {
	case s.Details == nil || isUnexpected(s.Details):
		return NotDone
	case s.Details.Kind == "namespaces":
		return Refused
	case s.Details.Name != "":
		return NotFound
	default:
		return NotDone
	}
}

func isUnexpected(d *metav1.StatusDetails) bool {
	for _, cause := range d.Causes {
		if cause.Type == metav1.CauseTypeUnexpectedServerResponse {
			return true
		}
	}
	return false
}

// passing are the words of 403 answers that time mends, as the ResourceQuota
// admission plug-in of Kubernetes 1.36 writes them: a quota that is used up, or
// one whose usage has not been counted yet.
var passing = []string{"exceeded quota: ", "status unknown for quota: "}

func kindOfForbidden(s metav1.Status, err error) Kind {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return NotDone
	}
	for _, words := range passing {
		if strings.Contains(s.Message, words) {
			return NotDone
		}
	}
	return Refused
}
