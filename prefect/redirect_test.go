package prefect_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"slipway/prefect"
)

func TestRedirects(t *testing.T) {
	reached := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	t.Cleanup(other.Close)
	for name, c := range map[string]struct{ to, want string }{
		"another port":    {other.URL + "/api/health?key=s3cret", "redirects to " + other.URL + ", which is not followed"},
		"another scheme":  {"https://127.0.0.1/", "redirects to https://127.0.0.1:443"},
		"another host":    {"http://localhost:1/", "redirects to http://localhost:1"},
		"in a circle":     {"/api/health", "in a circle"},
		"the same origin": {"/api/health/", ""},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/health/") {
				_, _ = io.WriteString(w, "true")
				return
			}
			http.Redirect(w, r, c.to, http.StatusTemporaryRedirect)
		}))
		client, err := prefect.NewHTTPClient(prefect.TLSOptions{}, time.Minute, 2)
		if err != nil {
			t.Fatal(err)
		}
		api, slept := dial(t, prefect.Options{URL: server.URL + "/api", HTTP: client, MaxRetries: 3, Headers: map[string]string{"X-Key": "k3y"}})
		err = api.Health(t.Context())
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (!prefect.IsInvalid(err) || prefect.MayHaveHappened(err) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret")):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if len(*slept) != 0 {
			t.Errorf("%s: it was tried again", name)
		}
		server.Close()
	}
	if reached != 0 {
		t.Errorf("another server got %d requests with credentials", reached)
	}
}
