package kube

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	// NotDone: it had no effect, and may succeed later (refused connection,
	// 401, 429, quota, namespace terminating).
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

// IsNotFound reports whether the object named is not there.
func IsNotFound(err error) bool { return isKind(err, NotFound) }

// IsExists reports whether an object of that name is there already.
func IsExists(err error) bool { return isKind(err, Exists) }

// IsRefused reports whether the request had no effect and never will have one.
func IsRefused(err error) bool { return isKind(err, Refused) }

// IsNotDone reports whether the request had no effect, but may have one later.
func IsNotDone(err error) bool { return isKind(err, NotDone) }

// IsUnknown reports whether the request may have had its effect. That is so for
// every error that is not of this package: the cautious reading. It is false for nil.
func IsUnknown(err error) bool { return err != nil && kindOf(err) == Unknown }

// IsForbidden reports whether the API server's authorizer (RBAC) refused the
// request, and not an admission plug-in, which answers 403 too. Only the
// authorizer's message says what the user "cannot" do.
func IsForbidden(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusForbidden && e.Kind == Refused && strings.Contains(e.Err.Error(), " cannot ")
}

func isKind(err error, kind Kind) bool { return err != nil && kindOf(err) == kind }

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unknown
}

// classify reads client-go's error. connected says whether the request had a
// connection; without one it cannot have reached the server.
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

// kindOfNotFound reads what a 404 is about. A create in a missing namespace names
// the namespace. An API that is not served (a proxy's page, a server that is
// starting) names nothing.
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

// quotaMessages are parts of 403 answers that are no final refusal, as the
// ResourceQuota admission plug-in of Kubernetes 1.36 writes them: the quota is
// used up, or its usage has not been counted yet.
var quotaMessages = []string{"exceeded quota: ", "status unknown for quota: "}

func isAboutQuota(message string) bool {
	return slices.ContainsFunc(quotaMessages, func(part string) bool { return strings.Contains(message, part) })
}

func kindOfForbidden(s metav1.Status, err error) Kind {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || isAboutQuota(s.Message) {
		return NotDone
	}
	return Refused
}
