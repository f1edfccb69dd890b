package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
)

// place is an installation of Slipway: the Prefect server that it serves, and the
// rights that it has in the cluster.
type place struct {
	name       string
	server     *prefectserver.Server
	kubeconfig string
	settings   []string // more of its environment
}

// hasty are settings with which a sweep does within seconds what it does at all.
var hasty = []string{"SLIPWAY_SETTLE_GRACE=1s", "SLIPWAY_ORPHAN_GRACE=1s"}

// first serves the world's own Prefect server, with the rights of deploy/namespace
// in the namespace dev, or with those of deploy/overlays/cluster-wide.
func first(t *testing.T, clusterWide bool, settings ...string) place {
	t.Helper()
	p := place{name: "first", server: w.Prefect, kubeconfig: w.Kubeconfig, settings: append(slices.Clone(hasty), settings...)}
	if !clusterWide {
		return p
	}
	var err error
	if p.kubeconfig, err = w.ClusterWide(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// second serves a second Prefect server, with the same rights as first.
func second(t *testing.T, clusterWide bool, settings ...string) place {
	t.Helper()
	return beside(t, prefectserver.Prefect3, clusterWide, settings...)
}

// beside serves a Prefect server of a version, beside the world's own.
func beside(t *testing.T, lock string, clusterWide bool, settings ...string) place {
	t.Helper()
	p := first(t, clusterWide, settings...)
	var err error
	if p.server, err = w.Beside(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	p.name = "second (" + lock + ")"
	return p
}

// bothRights are for the whole proof; CI draws one.
func bothRights() []bool {
	if full {
		return []bool{true, false}
	}
	return []bool{seed%2 == 0}
}

func rights(clusterWide bool) string {
	if clusterWide {
		return "cluster-wide"
	}
	return "namespaced"
}

// with is the same place with more settings.
func (p place) with(settings ...string) place {
	p.settings = append(slices.Clone(p.settings), settings...)
	return p
}

func (p place) env() []string {
	return append([]string{"PREFECT_API_URL=" + p.server.API, "KUBECONFIG=" + p.kubeconfig}, p.settings...)
}

// slipway runs the command line at this place, and wants it to end well. A busy machine
// may make it leave something for the next trigger, which is code 4.
func (p place) slipway(t *testing.T, args ...string) world.Result {
	t.Helper()
	result := p.attempt(t, args...)
	if result.Code != 0 && result.Code != 4 && t.Context().Err() == nil {
		t.Errorf("slipway %v at the %s server ended with %d:\n%s%s", args, p.name, result.Code, result.Stdout, result.Stderr)
	}
	return result
}

// attempt runs the command line to whatever end.
func (p place) attempt(t *testing.T, args ...string) world.Result {
	t.Helper()
	result, err := w.SlipwayWith(t.Context(), p.env(), args...)
	if err != nil && t.Context().Err() == nil {
		t.Errorf("slipway %v: %v", args, err)
	}
	return result
}

func (p place) dispatch(t *testing.T, pools ...string) {
	t.Helper()
	p.slipway(t, append([]string{"dispatch", "-o", "json"}, poolFlags(pools)...)...)
}

func (p place) sweep(t *testing.T, pools ...string) world.Result {
	t.Helper()
	return p.slipway(t, append([]string{"sweep", "-o", "json"}, poolFlags(pools)...)...)
}

// claim makes passes until runs are claimed.
func (p place) claim(t *testing.T, subjects []*subject, pools ...string) {
	t.Helper()
	eventually(t, "the runs are claimed", func() bool {
		p.dispatch(t, pools...)
		look(t, subjects)
		return !slices.ContainsFunc(subjects, func(s *subject) bool { return s.state == "SCHEDULED" })
	})
}

func poolFlags(pools []string) (flags []string) {
	for _, pool := range pools {
		flags = append(flags, "--work-pool", pool)
	}
	return flags
}

// pool makes a work pool and a deployment in it whose runs are probes.
func (p place) pool(t *testing.T, name string, variables map[string]any) (deployment string) {
	t.Helper()
	template, err := world.Template()
	if err != nil {
		t.Fatal(err)
	}
	return p.poolOf(t, name, template, variables)
}

func (p place) poolOf(t *testing.T, name string, template json.RawMessage, variables map[string]any) (deployment string) {
	t.Helper()
	if err := p.server.CreatePool(t.Context(), name, template); err != nil {
		t.Fatal(err)
	}
	return p.deploy(t, name, variables)
}

func (p place) deploy(t *testing.T, pool string, variables map[string]any) string {
	t.Helper()
	flow, err := p.server.CreateFlow(t.Context(), "probe")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"image": world.Probe, "namespace": world.Namespace, "service_account_name": "worker", "name": pool}
	maps.Copy(all, variables)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil }) // as if not given
	id, err := p.server.CreateDeployment(t.Context(), flow, pool, pool, map[string]any{"job_variables": all})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (p place) call(t *testing.T, method, path string, body any) {
	t.Helper()
	if err := p.server.Call(t.Context(), method, path, body, nil); err != nil {
		t.Error(err)
	}
}

// signal is a file that many probes wait for.
type signal string

func newSignal(t *testing.T) signal {
	t.Helper()
	return signal(filepath.Join(t.TempDir(), "go"))
}

func (s signal) give(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(string(s), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// executionsOf counts how often the probe ran for a run.
func executionsOf(t *testing.T, id string) int {
	t.Helper()
	counts, err := w.Executions()
	if err != nil {
		t.Fatal(err)
	}
	return counts[id]
}

// jobsDeleted are the Jobs that Slipway's accounts deleted, of those whose names begin
// so, and when it was first asked for.
func jobsDeleted(t *testing.T, prefix string) map[string]time.Time {
	t.Helper()
	deletions, err := w.Cluster.JobDeletions()
	if err != nil {
		t.Fatal(err)
	}
	deleted := map[string]time.Time{}
	for _, d := range deletions {
		name := d.ObjectRef.Namespace + "/" + d.ObjectRef.Name
		if _, again := deleted[name]; !again && strings.HasPrefix(d.ObjectRef.Name, prefix) {
			deleted[name] = d.Received
		}
	}
	return deleted
}

// killedAt runs the command line until it dies before, or after, the effect of the
// first request that match finds.
func (p place) killedAt(t *testing.T, match func(*http.Request) bool, after bool, args ...string) {
	t.Helper()
	gate := p.cutter(t)
	behind := gate.behind(t, "SLIPWAY_CONCURRENCY=1")
	eventually(t, fmt.Sprintf("a request at which slipway %v is killed", args), func() bool {
		return gate.cut(t, behind, 0, match, after, args...)
	})
}

func makesJob(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/jobs")
}

func writesPID(r *http.Request) bool {
	return r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/flow_runs/")
}
