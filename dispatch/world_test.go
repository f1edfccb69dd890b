package dispatch_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/internal/redact"
	"slipway/kube"
	"slipway/kube/kubetest"
	"slipway/prefect"
	"slipway/prefect/prefecttest"
)

const pool = "k8s"

type doc = map[string]any

// template is a base job template of the least that a Job needs.
func template() doc {
	return doc{
		"variables": doc{"type": "object", "properties": doc{"image": doc{"type": "string", "default": "flow:1"}, "namespace": doc{"type": "string", "default": "dev"}, "name": doc{"type": "string"}, "cluster_config": doc{"type": "object"}}},
		"job_configuration": doc{
			"name": "{{ name }}", "namespace": "{{ namespace }}", "env": "{{ env }}", "cluster_config": "{{ cluster_config }}",
			"job_manifest": doc{
				"apiVersion": "batch/v1", "kind": "Job",
				"metadata": doc{"generateName": "{{ name }}-", "namespace": "{{ namespace }}"},
				"spec": doc{"backoffLimit": 0, "template": doc{"spec": doc{
					"restartPolicy": "Never", "completions": 1, "parallelism": 1,
					"containers": []any{doc{"name": "prefect-job", "image": "{{ image }}", "env": "{{ env }}"}},
				}}},
			},
		},
	}
}

// world is a dispatcher between two servers for tests.
type world struct {
	t          *testing.T
	prefect    *prefecttest.Server
	kube       *kubetest.Server
	deployment string
	change     func(*dispatch.Options)
	skew       time.Duration // of the dispatcher's machine against the servers
	waited     atomic.Int64  // by which the dispatcher's clock has been moved on
	log        logBuffer     // lines of dispatchers
}

func newWorld(t *testing.T, options ...prefecttest.Option) *world {
	w := &world{t: t, prefect: prefecttest.New(t, options...), kube: kubetest.New(t, "dev")}
	w.prefect.AddPool(pool, doc{"type": "kubernetes", "base_job_template": template()})
	w.deployment = w.prefect.AddDeployment(pool, "etl", "demo", doc{})
	return w
}

// dispatcher makes a new one, as a new process would.
func (w *world) dispatcher() *dispatch.Dispatcher {
	w.t.Helper()
	server, err := prefect.New(prefect.Options{URL: w.prefect.URL, WorkerName: "slipway", MaxRetries: 2, Sleep: noSleep, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	cluster, err := kube.New(w.kube.Config(), kube.Options{QPS: 10000, Burst: 10000, Timeout: 5 * time.Second, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	o := dispatch.Options{
		Prefect: server, Kube: cluster, Log: slog.New(slog.NewJSONHandler(&w.log, nil)),
		Redactor: redact.New(), WorkerName: "slipway", Heartbeat: time.Minute, Concurrency: 8, Deadline: 45 * time.Second, OrphanGrace: time.Minute, SettleGrace: 30 * time.Second, Namespace: "default", Sleep: noSleep, Now: w.now,
	}
	if w.change != nil {
		w.change(&o)
	}
	return dispatch.New(o)
}

func (w *world) now() time.Time {
	return time.Now().Add(w.skew + time.Duration(w.waited.Load()))
}

// wait moves the dispatcher's clock on, as a slow answer or a pause would.
func (w *world) wait(d time.Duration) { w.waited.Add(int64(d)) }

// waiting is a Sleep that takes no time, and moves the clock on.
func (w *world) waiting(ctx context.Context, d time.Duration) error {
	w.wait(d)
	return ctx.Err()
}

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// run makes one due flow run.
func (w *world) run() string {
	return w.prefect.AddRun(w.deployment, time.Now().Add(-time.Second), nil)
}

func (w *world) runs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = w.prefect.AddRun(w.deployment, time.Now().Add(-time.Second), doc{"name": fmt.Sprintf("run-%d", i)})
	}
	return ids
}

// pass makes one pass that must end without an error.
func (w *world) pass(change ...func(*dispatch.Request)) dispatch.Report {
	w.t.Helper()
	report, err := w.tryPass(w.t.Context(), change...)
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

func (w *world) tryPass(ctx context.Context, change ...func(*dispatch.Request)) (dispatch.Report, error) {
	req := dispatch.Request{WorkPools: []string{pool}}
	for _, c := range change {
		c(&req)
	}
	reports, err := w.dispatcher().Dispatch(ctx, req)
	if len(reports) != 1 {
		w.t.Fatalf("%d reports, want 1 (%v)", len(reports), err)
	}
	return reports[0], err
}

// state is a run's as the server has it.
func (w *world) state(id string) *prefect.FlowRun {
	w.t.Helper()
	client, err := prefect.New(prefect.Options{URL: w.prefect.URL})
	if err != nil {
		w.t.Fatal(err)
	}
	run, err := client.FlowRun(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return run
}

// jobsOf counts the Jobs of a run.
func (w *world) jobsOf(id string) int {
	n := 0
	for _, job := range w.kube.Jobs() {
		labels, _ := job["metadata"].(doc)["labels"].(doc)
		if labels["prefect.io/flow-run-id"] == id {
			n++
		}
	}
	return n
}

func only(report dispatch.Report, t *testing.T) dispatch.RunReport {
	t.Helper()
	if len(report.Runs) != 1 {
		t.Fatalf("%d runs in the report, want 1: %+v", len(report.Runs), report)
	}
	return report.Runs[0]
}

// posts counts the requests to Prefect whose path ends so.
func (w *world) posts(suffix string) int {
	n := 0
	for _, r := range w.prefect.Requests() {
		if strings.HasSuffix(r.Path, suffix) {
			n++
		}
	}
	return n
}

// onJobPost answers creations of Jobs, and lets all else through.
func (w *world) onJobPost(f func(http.ResponseWriter, *http.Request) bool) {
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/jobs") && f(rw, r)
	})
}
