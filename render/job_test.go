package render

import (
	"bytes"
	"encoding/json"
	"testing"
)

// stored is a Job whose environment and API key go into Secrets.
func stored(t *testing.T) *Job {
	t.Helper()
	pool := []byte(`{"name": "k8s", "id": "9e9fab33-0000-4000-8000-000000000004", "base_job_template": {
		"variables": {"properties": {"namespace": {"default": "today"}}},
		"job_configuration": {"namespace": "{{ namespace }}", "labels": {"team": "data"}, "env": {"A": "1", "PREFECT_API_KEY": "k"}, "job_manifest": {
			"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "x-", "annotations": {"kept": "yes"}},
			"spec": {"template": {"spec": {"parallelism": 1, "completions": 1, "restartPolicy": "Never", "containers": [{"name": "prefect-job", "image": "i"}]}}}}}}}`)
	template, err := Parse(pool, Options{As: V3, PrefectVersion: "3.8.8", PythonVersion: "3.11", WorkerName: "w", Environ: map[string]string{
		secretPrefix + "STORE_ENV_AS_SECRET": "true", secretPrefix + "CREATE_SECRET_FOR_API_KEY": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	job, err := template.Render(Run{FlowRun: []byte(`{"id": "9e9fab33-0000-4000-8000-000000000001", "name": "run"}`), Suffix: "0a1b2c3d"}, Documents{})
	if err != nil {
		t.Fatal(err)
	}
	if len(job.Secrets) != 2 {
		t.Fatalf("%d Secrets, want one for the key and one for the environment", len(job.Secrets))
	}
	return job
}

type metadata struct {
	Name, Namespace     string
	Labels, Annotations map[string]string
}

func metadataOf(t *testing.T, document []byte) (of, pod metadata) {
	t.Helper()
	var o struct {
		Metadata metadata
		Spec     struct{ Template struct{ Metadata metadata } }
	}
	if err := json.Unmarshal(document, &o); err != nil {
		t.Fatal(err)
	}
	return o.Metadata, o.Spec.Template.Metadata
}

func TestIdentity(t *testing.T) {
	job := stored(t)
	plain := job.Manifest(Identity{})
	got, pod := metadataOf(t, job.Manifest(Identity{
		Name:        "x-1",
		Labels:      map[string]string{"team": "slipway", "slipway/work-pool-id": "p"},
		Annotations: map[string]string{"slipway/transition-id": "t"},
	}))
	if got.Name != "x-1" || got.Labels["team"] != "slipway" || got.Labels["slipway/work-pool-id"] != "p" || got.Labels["prefect.io/flow-run-name"] != "run" ||
		got.Annotations["slipway/transition-id"] != "t" || got.Annotations["kept"] != "yes" {
		t.Errorf("the Job's metadata is %+v", got)
	}
	if pod.Labels["team"] != "data" || pod.Labels["slipway/work-pool-id"] != "" || pod.Annotations["slipway/transition-id"] != "" {
		t.Errorf("the pod's metadata is %+v", pod)
	}
	if !bytes.Equal(job.Manifest(Identity{}), plain) {
		t.Error("the Job changed with its identity")
	}
}

func TestJobInAnotherNamespace(t *testing.T) {
	job := stored(t)
	if job.In("") != job || job.In("today") != job {
		t.Error("no namespace, and its own, must keep the Job")
	}
	before := job.Manifest(Identity{})
	moved := job.In("claimed")
	if got, _ := metadataOf(t, moved.Manifest(Identity{Name: "n"})); got.Namespace != "claimed" || moved.Namespace != "claimed" {
		t.Errorf("the manifest is in %q, the Job in %q", got.Namespace, moved.Namespace)
	}
	if err := moved.Check(); err != nil {
		t.Error(err)
	}
	for i, secret := range moved.Secrets {
		was := job.Secrets[i]
		if got, _ := metadataOf(t, secret.Body); got.Namespace != "claimed" || secret.Namespace != "claimed" || got.Name != was.Name || secret.OwnedByJob != was.OwnedByJob {
			t.Errorf("the Secret %s is in %q, its body says %+v", secret.Name, secret.Namespace, got)
		}
		if again := moved.In("today").Secrets[i]; !bytes.Equal(again.Body, was.Body) {
			t.Errorf("moved back, the Secret is\n%s\nwant\n%s", again.Body, was.Body)
		}
	}
	if got, _ := metadataOf(t, before); got.Namespace != "today" || job.Namespace != "today" || !bytes.Equal(job.Manifest(Identity{}), before) {
		t.Error("moving changed the Job itself")
	}
}

// TestUpdatedLabel holds the label of times to what both workers made of them.
func TestUpdatedLabel(t *testing.T) {
	for text, want := range map[string]string{
		"2026-08-01T12:34:56.123456Z":      "2026-08-01T12:34:56.123456",
		"2026-08-01T12:34:56.123456":       "2026-08-01T12:34:56.123456",
		"2026-08-01 12:34:56":              "2026-08-01T12:34:56",
		"2026-08-01T12:34":                 "2026-08-01T12:34:00",
		"2026-08-01":                       "2026-08-01T00:00:00",
		"2026-08-01T12:34:56.1234567":      "2026-08-01T12:34:56.123456",
		"2026-08-01T12:34:56,5":            "2026-08-01T12:34:56.500000",
		"2026-08-01T14:34:56+0200":         "2026-08-01T12:34:56",
		"2026-08-01T14:34:56+02":           "2026-08-01T12:34:56",
		"2026-08-01T12:34:56.123456+00:00": "2026-08-01T12:34:56.123456",
	} {
		if got := (&job{rules: versions[V3]}).updated(text); got != want+"+00:00" {
			t.Errorf("%s is %s for Prefect 3", text, got)
		}
		if got := (&job{rules: versions[V2]}).updated(text); got != want+"Z" {
			t.Errorf("%s is %s for Prefect 2", text, got)
		}
	}
}

// TestTestModeReadsNoProfile: the built-in profile is what implies the setting of
// the ephemeral server.
func TestTestModeReadsNoProfile(t *testing.T) {
	const ephemeral = "PREFECT_SERVER_EPHEMERAL_ENABLED=True "
	for _, c := range []struct {
		environ map[string]string
		want    string
	}{
		{map[string]string{}, ephemeral},
		{map[string]string{"PREFECT_TEST_MODE": "false"}, "PREFECT_TESTING_TEST_MODE=False "},
		{map[string]string{"PREFECT_UNIT_TEST_MODE": "true"}, "PREFECT_TESTING_UNIT_TEST_MODE=True "},
		{map[string]string{"prefect_test_mode": "1"}, ephemeral + "PREFECT_TESTING_TEST_MODE=True "}, // a setting, but its name is matched exactly for the profile
		{map[string]string{"PREFECT_TESTING_TEST_MODE": "1", "PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_INTERNAL_LOGGING_LEVEL": "INFO"}, "PREFECT_TESTING_TEST_MODE=True "},
		{map[string]string{"PREFECT_TESTING_UNIT_TEST_MODE": "no", "PREFECT_LOGGING_LEVEL": "info"}, "PREFECT_LOGGING_LEVEL=INFO PREFECT_TESTING_UNIT_TEST_MODE=False "},
		{map[string]string{"PREFECT_DEBUG_MODE": "1", "PREFECT_INTERNAL_LOGGING_LEVEL": "INFO"}, "PREFECT_DEBUG_MODE=True " + ephemeral},
	} {
		env, err := versions[V3].settingsEnv(c.environ)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, key := range env.keys {
			got += key + "=" + textOf(env, key) + " "
		}
		if got != c.want {
			t.Errorf("%v hands on %q, want %q", c.environ, got, c.want)
		}
	}
}
