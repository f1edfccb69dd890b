package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"slipway/kube"
	"slipway/kube/kubetest"
	"slipway/kube/kubetest/contract"
)

func newClient(t *testing.T, cfg *rest.Config, o kube.Options) *kube.Client {
	t.Helper()
	client, err := kube.New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// TestKindOfRefusals holds each answer to what may be done about it. Bodies are
// those of kube-apiserver 1.36.3.
func TestKindOfRefusals(t *testing.T) {
	type doc = kubetest.Doc
	for _, c := range []struct {
		name    string
		code    int
		reason  string
		message string
		details doc
		want    kube.Kind
	}{
		{"bad request", 400, "BadRequest", "Job in version \"v1\" cannot be handled as a Job", nil, kube.Refused},
		{"invalid", 422, "Invalid", "Job.batch \"x\" is invalid", nil, kube.Refused},
		{"too large", 413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728", nil, kube.Refused},
		{"no namespace", 404, "NotFound", "namespaces \"nope\" not found", doc{"name": "nope", "kind": "namespaces"}, kube.Refused},
		{"API not served", 404, "NotFound", "the server could not find the requested resource", doc{}, kube.NotDone},
		{"RBAC", 403, "Forbidden", "jobs.batch is forbidden: User \"u\" cannot create resource \"jobs\" in API group \"batch\" in the namespace \"dev\"", doc{"group": "batch", "kind": "jobs"}, kube.Refused},
		{"admission", 403, "Forbidden", "admission webhook \"policy.example\" denied the request: no", nil, kube.Refused},
		{"quota", 403, "Forbidden", "jobs.batch \"x\" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: count/jobs.batch=1, limited: count/jobs.batch=1", doc{"name": "x", "group": "batch", "kind": "jobs"}, kube.NotDone},
		{"quota unknown", 403, "Forbidden", "jobs.batch \"x\" is forbidden: status unknown for quota: q, resources: count/jobs.batch", nil, kube.NotDone},
		{"namespace terminating", 403, "Forbidden", "jobs.batch \"x\" is forbidden: unable to create new content in namespace dev because it is being terminated", doc{"causes": []any{doc{"reason": "NamespaceTerminating", "message": "namespace dev is being terminated", "field": "metadata.namespace"}}}, kube.NotDone},
		{"unauthorized", 401, "Unauthorized", "Unauthorized", nil, kube.NotDone},
		{"too many", 429, "TooManyRequests", "too many requests", doc{"retryAfterSeconds": 3}, kube.NotDone},
		{"exists", 409, "AlreadyExists", "jobs.batch \"x\" already exists", nil, kube.Exists},
		{"conflict", 409, "Conflict", "Operation cannot be fulfilled on resourcequotas \"q\"", nil, kube.Unknown},
		{"internal", 500, "InternalError", "Internal error occurred: failed calling webhook", nil, kube.Unknown},
		{"time-out", 504, "Timeout", "Timeout: request did not complete within the allotted timeout", nil, kube.Unknown},
		{"unavailable", 503, "ServiceUnavailable", "etcdserver: leader changed", nil, kube.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := kubetest.New(t)
			server.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
				kubetest.Refuse(w, c.code, c.reason, c.message, c.details)
				return true
			})
			_, _, err := newClient(t, server.Config(), kube.Options{}).CreateJob(t.Context(), "dev", "x", contract.Manifest("dev", "x", "i"))
			var e *kube.Error
			if !errors.As(err, &e) || e.Kind != c.want || e.Status != c.code {
				t.Errorf("got %#v, want kind %d", err, c.want)
			}
			is := map[kube.Kind]bool{kube.Refused: kube.IsRefused(err), kube.NotDone: kube.IsNotDone(err), kube.Exists: kube.IsExists(err), kube.Unknown: kube.IsUnknown(err), kube.NotFound: kube.IsNotFound(err)}
			for kind, got := range is {
				if got != (kind == c.want) {
					t.Errorf("kind %d is %t of an error of kind %d", kind, got, c.want)
				}
			}
			if kube.IsForbidden(err) != (c.name == "RBAC") {
				t.Errorf("forbidden by the authorizer: %t", kube.IsForbidden(err))
			}
			if c.code == 429 && e.RetryAfter != 3*time.Second {
				t.Errorf("Retry-After %s", e.RetryAfter)
			}
			if n := len(server.Requests()); n != 1 {
				t.Errorf("%d requests were sent, want 1: repeating is the caller's", n)
			}
		})
	}
}

func TestErrorsOfOtherPackages(t *testing.T) {
	other := errors.New("not of this package")
	wrapped := fmt.Errorf("list: %w", &kube.Error{Kind: kube.NotFound, Err: other})
	for _, c := range []struct {
		name           string
		is             func(error) bool
		isNil, isOther bool
		isWrapped      bool
	}{
		{"IsNotFound", kube.IsNotFound, false, false, true},
		{"IsRefused", kube.IsRefused, false, false, false},
		{"IsExists", kube.IsExists, false, false, false},
		{"IsNotDone", kube.IsNotDone, false, false, false},
		{"IsUnknown", kube.IsUnknown, false, true, false},
		{"IsForbidden", kube.IsForbidden, false, false, false},
	} {
		if c.is(nil) != c.isNil || c.is(other) != c.isOther || c.is(wrapped) != c.isWrapped {
			t.Errorf("%s: nil %t, of another package %t, wrapped NotFound %t", c.name, c.is(nil), c.is(other), c.is(wrapped))
		}
	}
}

func TestNoConnectionIsNotDone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	_, _, err = newClient(t, &rest.Config{Host: "http://" + address}, kube.Options{}).CreateJob(t.Context(), "dev", "x", []byte("{}"))
	if !kube.IsNotDone(err) {
		t.Errorf("got %v, want NotDone", err)
	}
}

func TestLostAnswerIsUnknown(t *testing.T) {
	server := kubetest.New(t, "dev")
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		server.LoseAnswer(w, r)
		return true
	})
	_, _, err := newClient(t, server.Config(), kube.Options{}).CreateJob(t.Context(), "dev", "x", contract.Manifest("dev", "x", "i"))
	if !kube.IsUnknown(err) {
		t.Errorf("got %v, want Unknown", err)
	}
	if len(server.Jobs()) != 1 {
		t.Errorf("the Job is not there")
	}
}

func TestTimeoutIsUnknown(t *testing.T) {
	server := kubetest.New(t, "dev")
	release := make(chan struct{})
	defer close(release)
	server.Intercept(func(http.ResponseWriter, *http.Request) bool {
		<-release
		return true
	})
	_, _, err := newClient(t, server.Config(), kube.Options{Timeout: 50 * time.Millisecond}).CreateJob(t.Context(), "dev", "x", []byte("{}"))
	if !kube.IsUnknown(err) {
		t.Errorf("got %v, want Unknown", err)
	}
}

func TestOwnLimitIsNotDone(t *testing.T) {
	server := kubetest.New(t, "dev")
	client := newClient(t, server.Config(), kube.Options{QPS: 0.01, Burst: 1})
	if err := client.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := client.CreateJob(ctx, "dev", "x", []byte("{}"))
	if !kube.IsNotDone(err) {
		t.Errorf("got %v, want NotDone", err)
	}
	if n := len(server.Requests()); n != 1 {
		t.Errorf("%d requests arrived, want 1", n)
	}
}
