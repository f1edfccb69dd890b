package prefect_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/prefect"
	"slipway/prefect/prefecttest"
)

// dial makes a client that does not sleep but notes for how long it would have.
func dial(t *testing.T, o prefect.Options) (*prefect.Client, *[]time.Duration) {
	t.Helper()
	slept := &[]time.Duration{}
	o.Sleep = func(ctx context.Context, d time.Duration) error {
		*slept = append(*slept, d)
		return ctx.Err()
	}
	c, err := prefect.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c, slept
}

// failing answers with the statuses in turn, then with a null; it notes bodies
// and the clients' addresses.
func failing(t *testing.T, retryAfter string, statuses ...int) (url string, bodies, peers *[]string) {
	t.Helper()
	bodies, peers = &[]string{}, &[]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*bodies, *peers = append(*bodies, string(body)), append(*peers, r.RemoteAddr)
		if n := len(*bodies); n <= len(statuses) {
			w.Header().Set("Retry-After", retryAfter)
			w.WriteHeader(statuses[n-1])
			return
		}
		_, _ = io.WriteString(w, "null")
	}))
	t.Cleanup(server.Close)
	return server.URL + "/api", bodies, peers
}

func TestRetries(t *testing.T) {
	for _, c := range []struct {
		status, attempts int
		kind             prefect.Kind
		sent             bool
	}{
		{408, 2, 0, false}, {429, 2, 0, false}, {502, 2, 0, false}, {503, 2, 0, false},
		{500, 1, prefect.Unavailable, true},
		{504, 1, prefect.Unavailable, true},
		{404, 1, prefect.Unavailable, false},
		{401, 1, prefect.Denied, false},
		{409, 1, prefect.Invalid, false},
	} {
		url, bodies, _ := failing(t, "", c.status)
		client, _ := dial(t, prefect.Options{URL: url, MaxRetries: 3})
		err := client.SetInfrastructurePID(t.Context(), "id", "ns:job")
		if len(*bodies) != c.attempts {
			t.Errorf("%d: %d attempts, want %d", c.status, len(*bodies), c.attempts)
		}
		if len(slices.Compact(slices.Clone(*bodies))) != 1 {
			t.Errorf("%d: the bodies differ: %q", c.status, *bodies)
		}
		var failure *prefect.Error
		if errors.As(err, &failure) != (c.attempts == 1) {
			t.Fatalf("%d: %v", c.status, err)
		}
		if failure != nil && (failure.Kind != c.kind || failure.Sent != c.sent) {
			t.Errorf("%d: kind %v, sent %v", c.status, failure.Kind, failure.Sent)
		}
	}
}

func TestUnavailableClosesTheConnection(t *testing.T) {
	url, bodies, peers := failing(t, "", 503)
	client, _ := dial(t, prefect.Options{URL: url, MaxRetries: 1})
	if err := client.SetInfrastructurePID(t.Context(), "id", "ns:job"); err != nil {
		t.Fatal(err)
	}
	if (*peers)[0] == (*peers)[1] {
		t.Error("the second attempt came on the connection of the 503")
	}
	if (*bodies)[0] != (*bodies)[1] || (*bodies)[0] == "" {
		t.Errorf("bodies %q", *bodies)
	}
}

func TestRetryAfter(t *testing.T) {
	for _, value := range []string{"7", time.Now().Add(8 * time.Second).UTC().Format(http.TimeFormat)} {
		url, _, _ := failing(t, value, 429)
		client, slept := dial(t, prefect.Options{URL: url, MaxRetries: 1})
		if err := client.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(*slept) != 1 || (*slept)[0] < 6*time.Second || (*slept)[0] > 10*time.Second {
			t.Errorf("Retry-After %s: slept %v", value, *slept)
		}
	}
}

func TestRefusedConnectionIsNotSent(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	client, slept := dial(t, prefect.Options{URL: server.URL + "/api", MaxRetries: 2})
	var failure *prefect.Error
	if err := client.Health(t.Context()); !errors.As(err, &failure) || failure.Sent || failure.Kind != prefect.Unavailable {
		t.Fatalf("%+v", failure)
	}
	if len(*slept) != 2 {
		t.Errorf("slept %v", *slept)
	}
}

func TestLostAnswerIsRepeatedWithTheSameClaim(t *testing.T) {
	server := prefecttest.New(t)
	server.AddPool("p", nil)
	run := server.AddRun(server.AddDeployment("p", "f", "d", nil), time.Now(), nil)
	lost := false
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if lost {
			return false
		}
		lost = true
		server.LoseAnswer(w, r)
		return true
	})
	client, _ := dial(t, prefect.Options{URL: server.URL, MaxRetries: 2})
	state := []byte(`{"type":"PENDING","name":"Pending","state_details":{"transition_id":"9f5fe081-f3ab-4cda-b530-7947c242cb92"}}`)
	verdict, err := client.SetState(t.Context(), run, prefect.Proposal{State: state})
	if err != nil {
		t.Fatal(err)
	}
	if verdict.Status != "REJECT" || verdict.State.Details.TransitionID != "9f5fe081-f3ab-4cda-b530-7947c242cb92" {
		t.Errorf("%+v", verdict)
	}
}

func TestHeaders(t *testing.T) {
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	t.Cleanup(server.Close)
	client, _ := dial(t, prefect.Options{
		URL: server.URL + "/api", APIKey: "key", AuthString: "admin:s3cret",
		Headers: map[string]string{"X-Tenant": "a", "user-agent": "other"},
	})
	if err := client.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Authorization": "Basic YWRtaW46czNjcmV0", "User-Agent": "prefect/3.8.8 (API 0.8.4)",
		"X-Prefect-Api-Version": "0.8.4", "X-Tenant": "a",
	} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	server := prefecttest.New(t, prefecttest.BasicAuth("admin:right"))
	client, _ := dial(t, prefect.Options{URL: server.URL, APIKey: "k3y", AuthString: "admin:wr0ng", Headers: map[string]string{"X-T": "t0ken"}})
	_, err := client.ServerVersion(t.Context())
	var failure *prefect.Error
	if !errors.As(err, &failure) || failure.Kind != prefect.Denied || failure.Detail != "Unauthorized" {
		t.Fatalf("%v", err)
	}
	for _, secret := range []string{"k3y", "wr0ng", "t0ken"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q is in %q", secret, err)
		}
	}
}

func TestCSRF(t *testing.T) {
	for name, options := range map[string][]prefecttest.Option{"on": {prefecttest.CSRF()}, "off": nil} {
		server := prefecttest.New(t, options...)
		server.AddPool("p", nil)
		client, _ := dial(t, prefect.Options{URL: server.URL, CSRF: true})
		for range 2 {
			if err := client.Heartbeat(t.Context(), "p", "w", time.Minute); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := len(server.Requests()); n != 3 {
			t.Errorf("%s: %d requests, want one for the token and two heartbeats", name, n)
		}
	}
}

func TestCancelledContextEndsTheCall(t *testing.T) {
	url, bodies, _ := failing(t, "", 503, 503, 503)
	client, _ := dial(t, prefect.Options{URL: url, MaxRetries: 5})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.Health(ctx); !errors.Is(err, context.Canceled) || len(*bodies) != 0 {
		t.Errorf("%v after %d requests", err, len(*bodies))
	}
}
