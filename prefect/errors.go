package prefect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kind says what a caller can do about an Error.
type Kind int

const (
	Internal    Kind = iota
	NotFound         // 404
	Denied           // 401, 403
	Invalid          // 400, 409, 422: the same request will be refused again
	Unavailable      // no connection, time-out, 5xx, 408, 429, after all attempts
)

// Error is a failed request. It holds no header and so no credentials.
type Error struct {
	Op         string // "claim flow run ID"
	Kind       Kind
	Status     int           // HTTP; 0: no answer
	Detail     string        // the server's words
	RetryAfter time.Duration // as the server asked; 0: it did not
	Sent       bool          // an attempt may have reached the server, and had its effect
	Err        error

	again bool // worth repeating
}

// IsNotFound tells whether a server answered that what was asked for is not there.
func IsNotFound(err error) bool { return isKind(err, NotFound) }

// IsDenied tells whether a server refused the credentials or the rights.
func IsDenied(err error) bool { return isKind(err, Denied) }

// IsInvalid tells whether a server will refuse the same request again.
func IsInvalid(err error) bool { return isKind(err, Invalid) }

// IsUnavailable tells whether no attempt got an answer that says anything about
// the request itself.
func IsUnavailable(err error) bool { return isKind(err, Unavailable) }

func isKind(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}

// MayHaveHappened tells whether a failed request may have had its effect: an
// attempt may have reached the server and nothing says that it was refused. It is
// true for an error that is not of this package, and false for nil.
func MayHaveHappened(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Sent
	}
	return err != nil
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// noAnswer is an error of the transport.
func noAnswer(op string, err error, sent bool) *Error {
	return &Error{Op: op, Kind: Unavailable, Sent: sent, Err: plainTransport(err), again: true}
}

// plainTransport drops the method and address that net/http puts before an
// error: an address may hold a password.
func plainTransport(err error) error {
	if wrapped, ok := errors.AsType[interface {
		error
		Unwrap() error
		Timeout() bool
		Temporary() bool
	}](err); ok {
		if inner := wrapped.Unwrap(); inner != nil {
			return inner
		}
	}
	return err
}

// fromStatus reads an error answer. The retried statuses are those of Prefect's
// own client: 408, 429, 502, 503.
func fromStatus(op string, status int, retryAfter time.Duration, body []byte) *Error {
	e := &Error{Op: op, Status: status, Detail: detail(status, body), RetryAfter: retryAfter}
	switch {
	case status == http.StatusNotFound:
		e.Kind = kindOf404(body)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Kind = Denied
	case status == http.StatusRequestTimeout, status == http.StatusBadGateway, status == http.StatusServiceUnavailable:
		// A 503 was seen to have had its effect all the same.
		e.Kind, e.again, e.Sent = Unavailable, true, true
	case status == http.StatusTooManyRequests:
		e.Kind, e.again = Unavailable, true
	case status >= 500:
		e.Kind, e.Sent = Unavailable, true
	default:
		e.Kind = Invalid
	}
	return e
}

// kindOf404 tells an object that is not there from a route that is not. Prefect names
// what it did not find; a router that knows no such path says "Not Found", and a proxy
// whose backend is away sends a page of its own: that proves nothing of any object.
func kindOf404(body []byte) Kind {
	switch text, ok := serverWords(body); {
	case !ok || text == "":
		return Unavailable
	case text == "Not Found":
		return Invalid
	}
	return NotFound
}

// maxDetailBytes bounds the server's words in an Error, and so in a log line.
const maxDetailBytes = 4 << 10

// detail finds the server's words: it answers {"detail": ...} or
// {"exception_message": ..., "exception_detail": [...]}.
func detail(status int, body []byte) string {
	text, ok := serverWords(body)
	if !ok || text == "" {
		return http.StatusText(status)
	}
	if len(text) > maxDetailBytes {
		return text[:runeStart(text, maxDetailBytes)] + " ..."
	}
	return text
}

// serverWords are those of an error answer; false if that is not one of Prefect's.
func serverWords(body []byte) (string, bool) {
	var words struct {
		Detail    json.RawMessage `json:"detail"`
		Message   string          `json:"exception_message"`
		Exception []struct {
			Loc []any  `json:"loc"`
			Msg string `json:"msg"`
		} `json:"exception_detail"`
	}
	if json.Unmarshal(body, &words) != nil {
		return "", false
	}
	text := words.Message
	if len(words.Detail) > 0 {
		text = string(words.Detail)
		var plain string
		if json.Unmarshal(words.Detail, &plain) == nil {
			text = plain
		}
	}
	for _, item := range words.Exception {
		// The item's input is left out: it may be a secret of the request.
		text += fmt.Sprintf(" %v: %s;", item.Loc, item.Msg)
	}
	return strings.TrimSuffix(text, ";"), true
}

// parseRetryAfter reads seconds, whole or not, or an HTTP date.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 && seconds < 1e6 {
		return time.Duration(seconds * float64(time.Second))
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
