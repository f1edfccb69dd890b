package workpool

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

// TestProposals holds the body of a proposed state: a server refuses members that it
// does not know, and a former state must not bring its old identity along.
func TestProposals(t *testing.T) {
	due := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	for name, c := range map[string]struct {
		change Change
		want   string
	}{
		"new":           {Change{Type: "CRASHED", Name: "Crashed", Message: "m"}, `{"message":"m","name":"Crashed","state_details":{"transition_id":"t"},"type":"CRASHED"}`},
		"due":           {Change{Type: "SCHEDULED", Name: "AwaitingRetry", Due: due}, `{"name":"AwaitingRetry","state_details":{"scheduled_time":"2026-01-02T03:04:05.000006Z","transition_id":"t"},"type":"SCHEDULED"}`},
		"former":        {Change{Former: json.RawMessage(`{"id":"x","timestamp":"y","type":"FAILED","name":"Failed","message":"m","data":{"a":1},"state_details":{"transition_id":"old","retriable":true}}`)}, `{"data":{"a":1},"message":"m","name":"Failed","state_details":{"retriable":true,"transition_id":"t"},"type":"FAILED"}`},
		"former, spare": {Change{Former: json.RawMessage(`{"type":"FAILED","state_details":null}`)}, `{"state_details":{"transition_id":"t"},"type":"FAILED"}`},
	} {
		if got := string(c.change.proposal("t")); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestSameText: ids that each request has of its own do not make another cause.
func TestSameText(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"claim flow run 11111111-1111-4111-8111-111111111111: HTTP 500", "claim flow run 22222222-2222-4222-8222-222222222222: HTTP 500", true},
		{`pods "x-abcde" is forbidden`, `pods "x-fghij" is forbidden`, true},
		{"HTTP 500", "HTTP 503", false},
	} {
		if SameText(c.a, c.b) != c.same {
			t.Errorf("%q and %q", c.a, c.b)
		}
	}
}

// TestKinds: what is not typed is Internal, and a joined error has the kind of its first
// typed one.
func TestKinds(t *testing.T) {
	if KindOf(errors.New("x")) != Internal || KindOf(nil) != Internal {
		t.Error("untyped errors are not Internal")
	}
	joined := errors.Join(&Error{Kind: Denied, Message: "a"}, &Error{Kind: Invalid, Message: "b"})
	if KindOf(joined) != Denied {
		t.Errorf("kind %d", KindOf(joined))
	}
}
