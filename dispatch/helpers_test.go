package dispatch_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"slipway/dispatch"
	"slipway/dispatch/claim"
	"slipway/internal/redact"
	"slipway/kube/kubetest"
	"slipway/prefect/prefecttest"
)

// logBuffer keeps the log lines of dispatchers.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// repairs are the log lines of repairs.
func (b *logBuffer) repairs() []doc {
	var found []doc
	for line := range strings.Lines(b.String()) {
		var record doc
		if json.Unmarshal([]byte(line), &record) == nil && record["msg"] == "repair" {
			found = append(found, record)
		}
	}
	return found
}

// bodyOf reads a request's body and leaves it to be read again.
func bodyOf(r *http.Request) []byte {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// proposes tells whether a request proposes a state of this type or name.
func proposes(r *http.Request, typeOrName string) bool {
	return strings.HasSuffix(r.URL.Path, "/set_state") && bytes.Contains(bodyOf(r), []byte(`"`+typeOrName+`"`))
}

// proposals are the runs for which states of a type or name were proposed, in order.
func (w *world) proposals(typeOrName string) []string {
	var ids []string
	for _, r := range w.prefect.Requests() {
		id, is := strings.CutSuffix(strings.TrimPrefix(r.Path, "/flow_runs/"), "/set_state")
		if is && bytes.Contains(r.Body, []byte(`"`+typeOrName+`"`)) {
			ids = append(ids, id)
		}
	}
	return ids
}

// kubePosts counts POST requests to the API server whose path ends so.
func (w *world) kubePosts(suffix string) int {
	n := 0
	for _, r := range w.kube.Requests() {
		if r.Method == http.MethodPost && strings.HasSuffix(r.Path, suffix) {
			n++
		}
	}
	return n
}

// onPrefect calls f with each request to Prefect. It answers if f returns true.
func (w *world) onPrefect(f func(http.ResponseWriter, *http.Request) bool) { w.prefect.Intercept(f) }

// endedAt is ended with the time of the end.
func endedAt(kind string, at time.Time) func(doc) {
	return func(job doc) {
		ended(kind)(job)
		job["status"].(doc)["conditions"].([]any)[0].(doc)["lastTransitionTime"] = at.UTC().Format(time.RFC3339)
	}
}

// force puts a run through several states.
func (w *world) force(id string, types ...string) {
	for _, kind := range types {
		w.prefect.Force(id, doc{"type": kind})
	}
}

// retry is what a user does in the UI, or an automation.
func (w *world) retry(id string) {
	w.t.Helper()
	w.call(http.MethodPost, "/flow_runs/"+id+"/set_state", doc{"state": doc{"type": "SCHEDULED", "name": "AwaitingRetry"}})
}

// newClaim is a claim of Slipway's in this cluster whose dispatcher did nothing more.
func (w *world) newClaim(id string) string {
	w.t.Helper()
	transition, err := claim.NewID(kubetest.ClusterUID, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return transition
}

// namespaced refuses lists of the whole cluster, as the Roles of a namespaced
// installation do.
func (w *world) namespaced() {
	w.kube.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && r.URL.Path == "/apis/batch/v1/jobs" {
			kubetest.Refuse(rw, 403, "Forbidden", `jobs.batch is forbidden: User "system:serviceaccount:slipway:slipway" cannot list resource "jobs" in API group "batch" at the cluster scope`, nil)
			return true
		}
		return false
	})
}

// redeploy replaces the deployment by one of the same id.
func (w *world) redeploy(id string, variables doc) {
	w.t.Helper()
	w.call(http.MethodDelete, "/deployments/"+id, nil)
	w.prefect.AddDeployment(pool, "etl", "demo", doc{"id": id, "job_variables": variables})
}

// addPool makes a second work pool of the same server.
func (w *world) addPool(name string) {
	w.prefect.AddPool(name, doc{"type": "kubernetes", "base_job_template": template()})
}

// refusePosts answers creations of Jobs.
func (w *world) refusePosts(code int, reason, message string) {
	w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
		kubetest.Refuse(rw, code, reason, message, nil)
		return true
	})
}

// die makes a pass whose dispatcher ends after the claim, without a Job.
func (w *world) die() {
	w.t.Helper()
	w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
		w.kube.Break(rw)
		return true
	})
	before := w.change
	w.change = func(o *dispatch.Options) {
		if before != nil {
			before(o)
		}
		o.Sleep = w.waiting
	}
	_, _ = w.tryPass(w.t.Context())
	w.change = before
	w.kube.Intercept(nil)
	w.waited.Store(0)
}

// row is the only one of a report that is about a run.
func row(r dispatch.SweepReport, id string) dispatch.SweepRow {
	for _, row := range r.Rows {
		if row.ID == id {
			return row
		}
	}
	return dispatch.SweepRow{}
}

// beside is another dispatcher's world: another Prefect server, whose Jobs go to the
// same cluster.
func (w *world) beside() *world {
	other := newWorld(w.t)
	other.kube = w.kube
	return other
}

var movable = prefecttest.Without("unknown keys of a run")

// workersClaim is a transition id that no Slipway has made.
const workersClaim = "11111111-1111-4111-8111-111111111111"

// dispatcherAt is one with a clock of its own.
func (w *world) dispatcherAt(now func() time.Time) *dispatch.Dispatcher {
	w.t.Helper()
	at := &world{t: w.t, prefect: w.prefect, kube: w.kube, change: func(o *dispatch.Options) { o.Now = now }}
	return at.dispatcher()
}

// orphanBeside is an orphan in a world where other runs have Jobs.
func (w *world) orphanBeside() string {
	w.t.Helper()
	id := w.run()
	w.die()
	return id
}

// hides configures secrets of the process.
func hides(secrets ...string) func(*dispatch.Options) {
	return func(o *dispatch.Options) { o.Redactor = redact.New(secrets...) }
}
