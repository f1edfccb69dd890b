package dispatch_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/dispatch"
	"slipway/internal/redact"
)

func lookAhead(d time.Duration) func(*dispatch.Request) {
	return func(r *dispatch.Request) { r.LookAhead = d }
}

func TestLookAhead(t *testing.T) {
	w := newWorld(t)
	soon := w.prefect.AddRun(w.deployment, time.Now().Add(40*time.Second), nil)
	w.prefect.AddRun(w.deployment, time.Now().Add(5*time.Minute), nil)
	if r := w.pass(); r.Found != 0 {
		t.Errorf("without look-ahead %d runs were found", r.Found)
	}
	if line := only(w.pass(lookAhead(time.Minute)), t); line.ID != soon || line.Outcome != dispatch.Submitted {
		t.Errorf("%+v", line)
	}
}

func TestNoLookAheadUnderAConcurrencyLimit(t *testing.T) {
	w := newWorld(t)
	limited := w.prefect.AddDeployment(pool, "etl", "limited", doc{"concurrency_limit": 1})
	id := w.prefect.AddRun(limited, time.Now().Add(40*time.Second), nil)
	line := only(w.pass(lookAhead(time.Minute)), t)
	if line.Outcome != dispatch.Skipped || !strings.Contains(line.Reason, "concurrency limit") || w.state(id).StateType != "SCHEDULED" {
		t.Errorf("%+v", line)
	}
}

// TestBlockedRunsHideNoOthers: more runs than a page wait for a slot of their
// deployment; the one behind them is found.
func TestBlockedRunsHideNoOthers(t *testing.T) {
	w := newWorld(t)
	limited := w.prefect.AddDeployment(pool, "etl", "limited", doc{"concurrency_limit": 1})
	due := time.Now().Add(30 * time.Second)
	for i := range 260 {
		w.prefect.AddRun(limited, due.Add(time.Duration(i)*time.Millisecond), nil)
	}
	behind := w.prefect.AddRun(w.deployment, due.Add(time.Second), nil)
	report := w.pass(lookAhead(time.Minute))
	if report.Submitted != 1 || report.Skipped != 260 || w.jobsOf(behind) != 1 {
		t.Errorf("submitted %d, skipped %d", report.Submitted, report.Skipped)
	}
	if n := w.posts("/get_scheduled_flow_runs"); n > 12 {
		t.Errorf("%d polls were made", n)
	}
}

func TestLimitsAndPauses(t *testing.T) {
	t.Run("paused pool", func(t *testing.T) {
		w := newWorld(t)
		w.prefect.AddPool("paused", doc{"type": "kubernetes", "base_job_template": template(), "is_paused": true})
		d := w.prefect.AddDeployment("paused", "etl", "p", nil)
		w.prefect.AddRun(d, time.Now(), nil)
		r := w.pass(func(r *dispatch.Request) { r.WorkPools = []string{"paused"} })
		if !r.Paused || r.Found != 0 || len(w.kube.Jobs()) != 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("pool limit", func(t *testing.T) {
		w := newWorld(t)
		w.prefect.AddPool("limited", doc{"type": "kubernetes", "base_job_template": template(), "concurrency_limit": 2})
		d := w.prefect.AddDeployment("limited", "etl", "l", nil)
		for range 5 {
			w.prefect.AddRun(d, time.Now(), nil)
		}
		if r := w.pass(func(r *dispatch.Request) { r.WorkPools = []string{"limited"} }); r.Submitted != 2 {
			t.Errorf("submitted %d, want 2", r.Submitted)
		}
	})
	t.Run("queue limit", func(t *testing.T) {
		w := newWorld(t)
		w.prefect.AddQueue(pool, "narrow", doc{"concurrency_limit": 1})
		d := w.prefect.AddDeployment(pool, "etl", "q", doc{"work_queue_name": "narrow"})
		for range 3 {
			w.prefect.AddRun(d, time.Now(), nil)
		}
		other := w.run()
		if r := w.pass(); r.Submitted != 2 || w.jobsOf(other) != 1 {
			t.Errorf("submitted %d, want 2", r.Submitted)
		}
	})
	t.Run("limit of the pass", func(t *testing.T) {
		w := newWorld(t)
		w.runs(10)
		if r := w.pass(func(r *dispatch.Request) { r.Limit = 4 }); r.Submitted != 4 || len(w.kube.Jobs()) != 4 {
			t.Errorf("submitted %d, want 4", r.Submitted)
		}
	})
}

func TestFlowRunFilter(t *testing.T) {
	w := newWorld(t)
	ids := w.runs(3)
	report := w.pass(func(r *dispatch.Request) {
		r.FlowRunIDs = []string{strings.ToUpper(ids[1]), "99999999-9999-4999-8999-999999999999"}
	})
	if report.Submitted != 1 || w.jobsOf(ids[1]) != 1 || len(w.kube.Jobs()) != 1 {
		t.Errorf("%+v", report)
	}
	if report.Skipped != 1 || !strings.Contains(report.Runs[1].Reason, "the poll did not return it") {
		t.Errorf("the run that is not there: %+v", report.Runs)
	}
}

func TestQueues(t *testing.T) {
	w := newWorld(t)
	w.prefect.AddQueue(pool, "other", nil)
	d := w.prefect.AddDeployment(pool, "etl", "q", doc{"work_queue_name": "other"})
	id := w.prefect.AddRun(d, time.Now(), nil)
	w.run()
	if r := w.pass(func(r *dispatch.Request) { r.WorkQueues = []string{"other"} }); r.Submitted != 1 || w.jobsOf(id) != 1 {
		t.Errorf("%+v", r)
	}
	_, err := w.tryPass(t.Context(), func(r *dispatch.Request) { r.WorkQueues = []string{"nope"} })
	if dispatch.KindOf(err) != dispatch.Invalid || !strings.Contains(err.Error(), "nope") {
		t.Errorf("a queue that is not there: %v", err)
	}
}

func TestWrongPool(t *testing.T) {
	w := newWorld(t)
	w.prefect.AddPool("procs", doc{"type": "process"})
	for name, words := range map[string]string{"nope": "does not exist", "procs": "type kubernetes"} {
		_, err := w.tryPass(t.Context(), func(r *dispatch.Request) { r.WorkPools = []string{name} })
		if dispatch.KindOf(err) != dispatch.Invalid || !strings.Contains(err.Error(), words) {
			t.Errorf("pool %s: %v", name, err)
		}
	}
}

func TestServerAway(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.prefect.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/get_scheduled_flow_runs") {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	if _, err := w.tryPass(t.Context()); dispatch.KindOf(err) != dispatch.Unavailable {
		t.Errorf("error %v, want Unavailable", err)
	}
}

func TestDeletedDeployment(t *testing.T) {
	w := newWorld(t)
	id := w.run()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, w.prefect.URL+"/deployments/"+w.deployment, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	line := only(w.pass(), t)
	if run := w.state(id); line.Outcome != dispatch.Refused || run.StateType != "CANCELLED" || !strings.Contains(run.State.Message, "deleted") {
		t.Errorf("%+v; the run is %s", line, run.StateType)
	}
}

func TestTemplateFault(t *testing.T) {
	w := newWorld(t)
	d := w.prefect.AddDeployment(pool, "etl", "bad", doc{"job_variables": doc{"namespace": 7}})
	id := w.prefect.AddRun(d, time.Now(), nil)
	line := only(w.pass(), t)
	run := w.state(id)
	if line.Outcome != dispatch.Refused || run.StateType != "CRASHED" || !strings.Contains(run.State.Message, "job_configuration/namespace") {
		t.Errorf("%+v; the run is %s: %s", line, run.StateType, run.State.Message)
	}
	if len(w.prefect.Logs()) != 1 {
		t.Errorf("%d log lines, want one that says why", len(w.prefect.Logs()))
	}
}

func TestReferences(t *testing.T) {
	w := newWorld(t)
	w.prefect.AddBlock("secret", "registry", doc{"value": "registry.example"})
	w.prefect.AddVariable("tag", "v7")
	d := w.prefect.AddDeployment(pool, "etl", "refs", doc{"job_variables": doc{"image": "{{ prefect.blocks.secret.registry }}/flow:{{ prefect.variables.tag }}"}})
	w.prefect.AddRun(d, time.Now(), nil)
	line := only(w.pass(), t)
	if line.Outcome != dispatch.Submitted {
		t.Fatalf("%+v", line)
	}
	spec := w.kube.Jobs()["dev/"+line.Job]["spec"].(doc)["template"].(doc)["spec"].(doc)
	if image := spec["containers"].([]any)[0].(doc)["image"]; image != "registry.example/flow:v7" {
		t.Errorf("image %v", image)
	}
}

// TestMissingReferences: a block that does not exist ends the run, a variable that
// does not is told of.
func TestMissingReferences(t *testing.T) {
	w := newWorld(t)
	d := w.prefect.AddDeployment(pool, "etl", "none", doc{"job_variables": doc{"image": "i{{ prefect.variables.none }}"}})
	w.prefect.AddRun(d, time.Now(), nil)
	if line := only(w.pass(), t); line.Outcome != dispatch.Submitted || !strings.Contains(fmt.Sprint(line.Warnings), "prefect variable set none VALUE") {
		t.Errorf("%+v", line)
	}
	d = w.prefect.AddDeployment(pool, "etl", "gone", doc{"job_variables": doc{"image": "{{ prefect.blocks.secret.none }}"}})
	w.prefect.AddRun(d, time.Now(), nil)
	if line := only(w.pass(), t); line.Outcome != dispatch.Refused || !strings.Contains(line.Reason, `containers/0/image: the block "none" of type "secret" does not exist`) {
		t.Errorf("%+v", line)
	}
}

func TestNoSecretInMessages(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) { o.Redactor = redact.New("pnu_hush") }
	id := w.run()
	w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(422)
		_, _ = rw.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":422,"reason":"Invalid","message":"env: Invalid value: \"pnu_hush\""}`))
		return true
	})
	line := only(w.pass(), t)
	run := w.state(id)
	for _, text := range []string{line.Reason, run.State.Message, w.prefect.Logs()[0]["message"].(string)} {
		if strings.Contains(text, "pnu_hush") || !strings.Contains(text, "Invalid value") {
			t.Errorf("text %q", text)
		}
	}
}

// TestNoBlockSecretInMessages: what a block of the type secret holds is quoted by
// the API server, and not handed on.
func TestNoBlockSecretInMessages(t *testing.T) {
	w := newWorld(t)
	w.prefect.AddBlock("secret", "token", doc{"value": `tok"en-1`})
	d := w.prefect.AddDeployment(pool, "etl", "hidden", doc{"job_variables": doc{"image": "{{ prefect.blocks.secret.token }}"}})
	id := w.prefect.AddRun(d, time.Now(), nil)
	w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(422)
		_, _ = rw.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":422,"reason":"Invalid","message":"image: Invalid value: \"tok\\\"en-1\""}`))
		return true
	})
	line := only(w.pass(), t)
	run := w.state(id)
	for _, text := range []string{line.Reason, run.State.Message, w.prefect.Logs()[0]["message"].(string)} {
		if strings.Contains(text, "en-1") || !strings.Contains(text, "Invalid value: \"********\"") {
			t.Errorf("text %q", text)
		}
	}
}

// TestOtherCluster: a Job for another cluster is refused with what to do.
func TestOtherCluster(t *testing.T) {
	w := newWorld(t)
	block := w.prefect.AddBlock("kubernetes-cluster-config", "other", doc{"context_name": "other", "config": doc{"apiVersion": "v1", "kind": "Config", "contexts": []any{}}})
	d := w.prefect.AddDeployment(pool, "etl", "abroad", doc{"job_variables": doc{"cluster_config": doc{"$ref": doc{"block_document_id": block}}}})
	id := w.prefect.AddRun(d, time.Now(), nil)
	line := only(w.pass(), t)
	if run := w.state(id); line.Outcome != dispatch.Refused || run.StateType != "CRASHED" || !strings.Contains(run.State.Message, "cluster_config: it names a block") || len(w.kube.Jobs()) != 0 {
		t.Errorf("%+v; the run is %s %q", line, run.StateType, run.State.Message)
	}
}

func TestEnvironmentInASecret(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *dispatch.Options) {
		o.Environ = map[string]string{"PREFECT_API_KEY": "k", "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_STORE_ENV_AS_SECRET": "true"}
	}
	w.run()
	line := only(w.pass(), t)
	secrets := w.kube.Secrets()
	if line.Outcome != dispatch.Submitted || len(secrets) != 1 {
		t.Fatalf("%+v, %d Secrets", line, len(secrets))
	}
	// A Job that is refused takes its Secret along.
	w.run()
	w.onJobPost(func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(422)
		_, _ = rw.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":422,"reason":"Invalid","message":"no"}`))
		return true
	})
	w.pass()
	if n := len(w.kube.Secrets()); n != 1 {
		t.Errorf("%d Secrets, want 1", n)
	}
}
