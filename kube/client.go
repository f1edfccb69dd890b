// Package kube talks to a Kubernetes API server, as far as running Jobs needs
// it: create and read Jobs, keep the Secrets that belong to them, and name the
// cluster. Its errors say whether a request can have had an effect.
package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"slipway/internal/clock"
)

// Options of a Client. Zero values mean the defaults named.
type Options struct {
	QPS       float32       // requests a second, on average; 50
	Burst     int           // requests at once after a pause; 100
	Timeout   time.Duration // of one request; 15 s
	UserAgent string        // "slipway"

	Now func() time.Time // nil: time.Now
}

// Client is safe for concurrent use.
type Client struct {
	batch   rest.Interface
	core    rest.Interface
	limiter flowcontrol.RateLimiter
	timeout time.Duration
	clock   *clock.Clock
}

// Skew is how far the API server's clock is ahead of this machine's; 0 before its
// first answer.
func (c *Client) Skew() time.Duration { return c.clock.Skew() }

// New makes a client; it sends nothing yet. cfg is not changed.
//
// The scheme holds the two API groups in use and no more: registering every
// group of the full clientset costs a one-shot process start-up time and memory.
func New(cfg *rest.Config, o Options) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	// The limit is applied in do: client-go's own waits inside the request,
	// where a time-out could not be told from one of the server's.
	cfg.QPS = -1
	cfg.WarningHandlerWithContext = rest.NoWarnings{}
	cfg.UserAgent = or(o.UserAgent, "slipway")
	clock := &clock.Clock{Now: o.Now}
	cfg.Wrap(clock.Watch)

	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	c := &Client{
		limiter: flowcontrol.NewTokenBucketRateLimiter(or(o.QPS, 50), or(o.Burst, 100)),
		timeout: or(o.Timeout, 15*time.Second),
		clock:   clock,
	}
	if c.batch, err = restClient(cfg, httpClient, "/apis", batchv1.SchemeGroupVersion, batchv1.AddToScheme); err != nil {
		return nil, err
	}
	if c.core, err = restClient(cfg, httpClient, "/api", corev1.SchemeGroupVersion, corev1.AddToScheme); err != nil {
		return nil, err
	}
	return c, nil
}

func restClient(cfg *rest.Config, httpClient *http.Client, path string, gv schema.GroupVersion, register func(*runtime.Scheme) error) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := register(scheme); err != nil {
		return nil, fmt.Errorf("register %s: %w", gv, err)
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath = path
	cfg.GroupVersion = &gv
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientForConfigAndClient(cfg, httpClient)
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client for %s: %w", gv, err)
	}
	return client, nil
}

// do sends one request, once, and types its error. into may be nil.
func (c *Client) do(ctx context.Context, op string, req *rest.Request, into runtime.Object) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.limiter.Wait(ctx); err != nil {
		return nil, &Error{Op: op, Kind: NotDone, Err: fmt.Errorf("no request was sent within %s: SLIPWAY_KUBE_QPS and SLIPWAY_KUBE_BURST hold it back: %w", c.timeout, err)}
	}
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	heard := &warnings{}
	// Repeating is the caller's: it knows how old the claim is by now.
	result := req.MaxRetries(0).WarningHandlerWithContext(heard).Do(ctx)
	err := result.Error()
	if err == nil && into != nil {
		if err = result.Into(into); err != nil {
			return heard.texts, &Error{Op: op, Kind: Unknown, Err: fmt.Errorf("the answer cannot be read: %w", err)}
		}
	}
	if err != nil {
		return heard.texts, classify(op, err, connected.Load())
	}
	return heard.texts, nil
}

// warnings keeps the Warning headers of one answer.
type warnings struct{ texts []string }

func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _ string, text string) {
	w.texts = append(w.texts, text)
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
