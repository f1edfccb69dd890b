// Package kube is a client of the Kubernetes API server for running Jobs: it
// creates, reads, lists and deletes Jobs, says what is wrong with their pods, keeps
// the Secrets that belong to them, and names the cluster. Its errors say whether a
// request can have had an effect. It never reads an answer without a bound.
package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	batch     rest.Interface
	core      rest.Interface
	limiter   flowcontrol.RateLimiter
	timeout   time.Duration
	clock     *clock.Clock
	maxAnswer int // bytes
}

// Skew is how far the API server's clock is ahead of this machine's; 0 before its
// first answer.
func (c *Client) Skew() time.Duration { return c.clock.Skew() }

// New makes a client; it sends nothing yet. cfg is not changed.
//
// The scheme holds no API group: what is read of objects is decoded as plain JSON. To
// register them costs start-up time and memory in each pass.
func New(cfg *rest.Config, o Options) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	// The limit is applied in send: client-go's own waits inside the request,
	// where a time-out could not be told from one of the server's.
	cfg.QPS = -1
	cfg.WarningHandlerWithContext = rest.NoWarnings{}
	cfg.UserAgent = cmp.Or(o.UserAgent, "slipway")
	c := &Client{
		limiter:   flowcontrol.NewTokenBucketRateLimiter(cmp.Or(o.QPS, 50), cmp.Or(o.Burst, 100)),
		timeout:   cmp.Or(o.Timeout, 15*time.Second),
		clock:     &clock.Clock{Now: o.Now},
		maxAnswer: maxAnswerBytes,
	}
	cfg.Wrap(c.clock.Watch)
	cfg.Wrap(c.boundAnswers)
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	if c.batch, err = restClient(cfg, httpClient, "/apis", batchv1.SchemeGroupVersion); err != nil {
		return nil, err
	}
	if c.core, err = restClient(cfg, httpClient, "/api", corev1.SchemeGroupVersion); err != nil {
		return nil, err
	}
	return c, nil
}

func restClient(cfg *rest.Config, httpClient *http.Client, path string, gv schema.GroupVersion) (rest.Interface, error) {
	scheme := runtime.NewScheme()
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

// do sends one request, once, and decodes the JSON of its answer. into may be nil.
// It returns the API server's warnings.
func (c *Client) do(ctx context.Context, op string, req *rest.Request, into any) ([]string, error) {
	return c.send(ctx, op, req, func(body io.Reader) error {
		if into == nil {
			return nil
		}
		return json.NewDecoder(body).Decode(into)
	})
}

// send sends one request, once, and types its error. read gets the body of a
// success; what it fails on is an answer that cannot be read.
func (c *Client) send(ctx context.Context, op string, req *rest.Request, read func(body io.Reader) error) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.limiter.Wait(ctx); err != nil {
		return nil, &Error{Op: op, Kind: NotDone, Err: fmt.Errorf("no request was sent within %s: SLIPWAY_KUBE_QPS and SLIPWAY_KUBE_BURST limit the requests: %w", c.timeout, err)}
	}
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	received := &warnings{}
	// The caller decides about a repeat: it knows how old its claim is by now.
	body, err := req.MaxRetries(0).WarningHandlerWithContext(received).Stream(ctx)
	if err != nil {
		return received.texts, classify(op, err, connected.Load())
	}
	defer func() { _ = body.Close() }()
	if err = read(body); err == nil {
		_, err = io.Copy(io.Discard, body) // a connection is used again once its answer is read
	}
	if err != nil {
		return received.texts, &Error{Op: op, Kind: Unknown, Err: fmt.Errorf("the answer cannot be read: %w", err)}
	}
	return received.texts, nil
}

// warnings keeps the Warning headers of one answer.
type warnings struct{ texts []string }

func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _ string, text string) {
	w.texts = append(w.texts, text)
}
