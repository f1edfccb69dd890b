package prefect_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"slipway/prefect"
)

// TestNotFound: only a 404 in the server's own words says that an object is not there. A
// router that knows no such path and a proxy whose backend is away say nothing of it.
func TestNotFound(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		kind prefect.Kind
	}{
		"a flow run":            {`{"detail":"Flow run not found"}`, prefect.NotFound},
		"a run of a proposal":   {`{"detail":"Flow run with id 11111111-1111-4111-8111-111111111111 not found"}`, prefect.NotFound},
		"a work pool":           {`{"detail":"Work pool \"k8s\" not found."}`, prefect.NotFound},
		"an exception":          {`{"exception_message":"Deployment not found"}`, prefect.NotFound},
		"a route":               {`{"detail":"Not Found"}`, prefect.Invalid},
		"nothing":               {``, prefect.Unavailable},
		"a text":                {`default backend - 404`, prefect.Unavailable},
		"a page":                {`<html><body><h1>404 Not Found</h1></body></html>`, prefect.Unavailable},
		"an object":             {`{"message":"no Route matched with those values"}`, prefect.Unavailable},
		"an empty object":       {`{}`, prefect.Unavailable},
		"no words":              {`{"detail":""}`, prefect.Unavailable},
		"null":                  {`null`, prefect.Unavailable},
		"null words":            {`{"detail":null}`, prefect.Unavailable},
		"a string":              {`"not found"`, prefect.Unavailable},
		"a list":                {`["not found"]`, prefect.Unavailable},
		"an answer that is cut": {`{"detail":"Flow run not fo`, prefect.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			requests := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests++
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, c.body)
			}))
			t.Cleanup(server.Close)
			client, _ := dial(t, prefect.Options{URL: server.URL + "/api", MaxRetries: 3})
			_, err := client.FlowRun(t.Context(), "11111111-1111-4111-8111-111111111111")
			var failure *prefect.Error
			if !errors.As(err, &failure) || failure.Kind != c.kind || failure.Status != http.StatusNotFound || failure.Sent {
				t.Fatalf("%+v, want kind %v", failure, c.kind)
			}
			if prefect.IsNotFound(err) != (c.kind == prefect.NotFound) || prefect.MayHaveHappened(err) || requests != 1 {
				t.Errorf("not found: %v, may have happened: %v, after %d requests", prefect.IsNotFound(err), prefect.MayHaveHappened(err), requests)
			}
			if err := client.Heartbeat(t.Context(), "p", "w", time.Minute); prefect.IsNotFound(err) != (c.kind == prefect.NotFound) {
				t.Errorf("another request: %v", err)
			}
		})
	}
}

// TestFlowWithoutBody: a success without an object is an error, and no flow that is nil.
func TestFlowWithoutBody(t *testing.T) {
	for _, body := range []string{"", "null"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		client, _ := dial(t, prefect.Options{URL: server.URL + "/api"})
		if flow, err := client.Flow(t.Context(), "id"); flow != nil || !prefect.IsUnavailable(err) {
			t.Errorf("%q: %+v %v", body, flow, err)
		}
		server.Close()
	}
}
