package prefect_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/prefect"
	"slipway/prefect/prefecttest"
)

func unclaim(id string) prefect.Proposal {
	return prefect.Proposal{State: []byte(`{"type":"SCHEDULED","name":"AwaitingRetry","state_details":{"transition_id":"` + id + `"}}`)}
}

func TestSetStateOnceIsOneAttempt(t *testing.T) {
	for status, happened := range map[int]bool{408: true, 429: false, 500: true, 502: true, 503: true, 404: false, 422: false} {
		url, bodies, _ := failing(t, "", status, status)
		client, slept := dial(t, prefect.Options{URL: url, MaxRetries: 5})
		_, err := client.SetStateOnce(t.Context(), "id", unclaim("a"))
		if err == nil || len(*bodies) != 1 || len(*slept) != 0 {
			t.Errorf("%d: %d attempts: %v", status, len(*bodies), err)
		}
		if prefect.MayHaveHappened(err) != happened {
			t.Errorf("%d: may have happened: %v", status, !happened)
		}
	}
}

func TestSetStateOnceWithALostAnswer(t *testing.T) {
	server := prefecttest.New(t)
	server.AddPool("p", nil)
	run := server.AddRun(server.AddDeployment("p", "f", "d", nil), time.Now(), nil)
	client, _ := dial(t, prefect.Options{URL: server.URL, MaxRetries: 5})
	var proposals atomic.Int64
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/set_state") {
			return false
		}
		if proposals.Add(1) == 1 {
			server.LoseAnswer(w, r)
			return true
		}
		return false
	})
	const id = "9f5fe081-f3ab-4cda-b530-7947c242cb92"
	if _, err := client.SetStateOnce(t.Context(), run, unclaim(id)); !prefect.MayHaveHappened(err) || proposals.Load() != 1 {
		t.Fatalf("%v after %d proposals", err, proposals.Load())
	}
	got, err := client.FlowRun(t.Context(), run)
	if err != nil || got.State.Details.TransitionID != id {
		t.Fatalf("%+v %v", got, err)
	}
	verdict, err := client.SetStateOnce(t.Context(), run, unclaim(id))
	if err != nil || verdict.Status != "REJECT" || verdict.State.Details.TransitionID != id {
		t.Errorf("the repeat: %+v %v", verdict, err)
	}
}

// A token that another process has replaced is renewed: the refused request had no
// effect.
func TestSetStateOnceRenewsTheCSRFToken(t *testing.T) {
	server := prefecttest.New(t, prefecttest.CSRF())
	server.AddPool("p", nil)
	run := server.AddRun(server.AddDeployment("p", "f", "d", nil), time.Now(), nil)
	client, _ := dial(t, prefect.Options{URL: server.URL, CSRF: true})
	stale := true
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if stale && strings.HasSuffix(r.URL.Path, "/set_state") {
			stale = false
			r.Header.Set("Prefect-Csrf-Token", "stale")
		}
		return false
	})
	verdict, err := client.SetStateOnce(t.Context(), run, unclaim("9f5fe081-f3ab-4cda-b530-7947c242cb92"))
	if err != nil || verdict.Status != "ACCEPT" || stale {
		t.Errorf("%+v %v", verdict, err)
	}
}

func TestVerdictWithoutStatus(t *testing.T) {
	for _, body := range []string{"", "null", "{}"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		client, _ := dial(t, prefect.Options{URL: server.URL + "/api"})
		if verdict, err := client.SetState(t.Context(), "id", unclaim("a")); verdict != nil || !prefect.MayHaveHappened(err) {
			t.Errorf("%q: %+v %v", body, verdict, err)
		}
		server.Close()
	}
}

func TestKinds(t *testing.T) {
	is := map[string]func(error) bool{
		"not found": prefect.IsNotFound, "denied": prefect.IsDenied, "invalid": prefect.IsInvalid, "unavailable": prefect.IsUnavailable,
	}
	for _, c := range []struct {
		err      error
		kind     string
		happened bool
	}{
		{nil, "", false},
		{errors.New("another"), "", true},
		{&prefect.Error{Kind: prefect.Internal}, "", false},
		{&prefect.Error{Kind: prefect.NotFound}, "not found", false},
		{&prefect.Error{Kind: prefect.Denied}, "denied", false},
		{&prefect.Error{Kind: prefect.Invalid}, "invalid", false},
		{&prefect.Error{Kind: prefect.Unavailable}, "unavailable", false},
		{fmt.Errorf("wrapped: %w", &prefect.Error{Kind: prefect.Unavailable, Sent: true}), "unavailable", true},
		// An earlier attempt got no answer, and the last one was refused.
		{&prefect.Error{Kind: prefect.Denied, Sent: true}, "denied", true},
	} {
		for kind, test := range is {
			if test(c.err) != (kind == c.kind) {
				t.Errorf("%v is %s: %v", c.err, kind, test(c.err))
			}
		}
		if prefect.MayHaveHappened(c.err) != c.happened {
			t.Errorf("%v may have happened: %v", c.err, !c.happened)
		}
	}
}
