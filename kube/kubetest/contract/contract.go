// Package contract pins what package kube relies on in a Kubernetes API server.
// The same rows hold package kubetest and a real server.
package contract

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"slipway/kube"
)

// Manifest is a Job that is never run: its pod waits for a node that never comes.
func Manifest(namespace, name, image string) []byte {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "batch/v1", "kind": "Job",
		"metadata": map[string]any{"name": name, "namespace": namespace, "generateName": "contract-", "annotations": map[string]any{"slipway/transition-id": "t"}},
		"spec": map[string]any{"suspend": true, "template": map[string]any{"spec": map[string]any{
			"restartPolicy": "Never", "completions": 1, "parallelism": 1,
			"containers": []any{map[string]any{"name": "prefect-job", "image": image, "env": nil}},
		}}},
	})
	if err != nil {
		panic(err) // plain maps always encode
	}
	return body
}

// Run holds the server behind client to the rows. namespace must exist, and be
// one where the client may create Jobs and Secrets.
func Run(t *testing.T, client *kube.Client, namespace string) {
	t.Run("create, repeat, read", func(t *testing.T) {
		job, warnings, err := client.CreateJob(t.Context(), namespace, "contract-a", Manifest(namespace, "contract-a", "i"))
		if err != nil {
			t.Fatal(err)
		}
		if job.Name != "contract-a" || job.UID == "" || job.Annotations["slipway/transition-id"] != "t" || job.Finished() || job.Deleting || !job.Suspended || !job.Podless || job.Created.IsZero() {
			t.Errorf("created %+v", job)
		}
		for _, field := range []string{"completions", "parallelism"} {
			if !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, `unknown field "spec.template.spec.`+field+`"`) }) {
				t.Errorf("no warning about the field %s that is pruned: %q", field, warnings)
			}
		}
		_, _, err = client.CreateJob(t.Context(), namespace, "contract-a", Manifest(namespace, "contract-a", "i"))
		wantKind(t, err, kube.Exists)
		again, err := client.Job(t.Context(), namespace, "contract-a")
		if err != nil || again.UID != job.UID || again.Annotations["slipway/transition-id"] != "t" {
			t.Errorf("read %+v, %v; created %+v", again, err, job)
		}
	})
	t.Run("a Job that is not there", func(t *testing.T) {
		_, err := client.Job(t.Context(), namespace, "contract-none")
		wantKind(t, err, kube.NotFound)
	})
	t.Run("a dry run stores nothing", func(t *testing.T) {
		stored, warnings, err := client.TryJob(t.Context(), namespace, Manifest(namespace, "contract-d", "i"))
		if err != nil || !strings.Contains(string(stored), `"contract-d"`) || strings.Contains(string(stored), "completions") && len(warnings) == 0 {
			t.Errorf("a try was answered %s, %q, %v", stored, warnings, err)
		}
		_, err = client.Job(t.Context(), namespace, "contract-d")
		wantKind(t, err, kube.NotFound)
		_, _, err = client.TryJob(t.Context(), namespace, Manifest(namespace, "contract-d", ""))
		wantKind(t, err, kube.Refused)
	})
	t.Run("list in pages", func(t *testing.T) { pages(t, client, namespace) })
	t.Run("list and delete", func(t *testing.T) { listed(t, client, namespace) })
	t.Run("an empty image", func(t *testing.T) {
		_, _, err := client.CreateJob(t.Context(), namespace, "contract-b", Manifest(namespace, "contract-b", ""))
		wantKind(t, err, kube.Refused)
		if !strings.Contains(err.Error(), "spec.template.spec.containers[0].image: Required value") {
			t.Errorf("the server's words are lost: %v", err)
		}
	})
	t.Run("another namespace in the manifest", func(t *testing.T) {
		_, _, err := client.CreateJob(t.Context(), namespace, "contract-c", Manifest("elsewhere", "contract-c", "i"))
		wantKind(t, err, kube.Refused)
	})
	t.Run("secrets", func(t *testing.T) { secrets(t, client, namespace) })
	t.Run("cluster", func(t *testing.T) { cluster(t, client, namespace) })
}

func cluster(t *testing.T, client *kube.Client, namespace string) {
	uid, err := client.ClusterUID(t.Context())
	if err != nil || len(uid) != 36 {
		t.Errorf("cluster uid %q, %v", uid, err)
	}
	for _, resource := range []string{"jobs", "nonsense"} {
		allowed, err := client.May(t.Context(), kube.Access{Namespace: namespace, Verb: "create", Group: "batch", Resource: resource})
		if err != nil || resource == "jobs" && !allowed {
			t.Errorf("create %s: %t, %v", resource, allowed, err)
		}
	}
	for _, ask := range []func(context.Context) error{client.Ping, client.Ready} {
		if err := ask(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func secrets(t *testing.T, client *kube.Client, namespace string) {
	body := []byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"contract","namespace":"` + namespace + `"},"stringData":{"a":"b"}}`)
	for range 2 { // the second time replaces
		if err := client.PutSecret(t.Context(), namespace, "contract", body); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.OwnSecret(t.Context(), namespace, "contract", &kube.Job{Name: "contract-a", UID: "00000000-0000-4000-8000-000000000000"}); err != nil {
		t.Error(err)
	}
	for range 2 { // the second time finds none
		if err := client.DeleteSecret(t.Context(), namespace, "contract"); err != nil {
			t.Error(err)
		}
	}
}

func wantKind(t *testing.T, err error, want kube.Kind) {
	t.Helper()
	var e *kube.Error
	if !errors.As(err, &e) || e.Kind != want {
		t.Errorf("got %v, want an error of kind %d", err, want)
	}
}

// labelled creates a Job with one label, which must not exist yet.
func labelled(t *testing.T, client *kube.Client, namespace, name, label string) *kube.Job {
	t.Helper()
	var manifest map[string]any
	if err := json.Unmarshal(Manifest(namespace, name, "i"), &manifest); err != nil {
		t.Fatal(err)
	}
	manifest["metadata"].(map[string]any)["labels"] = map[string]any{"contract": label, "other": "x"}
	body, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	job, _, err := client.CreateJob(t.Context(), namespace, name, body)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func list(t *testing.T, client *kube.Client, l kube.JobList) []*kube.Job {
	t.Helper()
	var found []*kube.Job
	if err := client.EachJob(t.Context(), l, func(job *kube.Job) { found = append(found, job) }); err != nil {
		t.Fatal(err)
	}
	return found
}

// pages: a list comes in pages of the size that is asked for, each Job once, and
// field selectors count.
func pages(t *testing.T, client *kube.Client, namespace string) {
	for _, name := range []string{"contract-p1", "contract-p2", "contract-p3"} {
		labelled(t, client, namespace, name, "p")
	}
	for _, size := range []int{0, 1, 2, 3} {
		var names []string
		for _, job := range list(t, client, kube.JobList{Namespace: namespace, LabelSelector: "contract=p", PageSize: size}) {
			names = append(names, job.Name)
		}
		slices.Sort(names)
		if !slices.Equal(names, []string{"contract-p1", "contract-p2", "contract-p3"}) {
			t.Errorf("pages of %d: %q", size, names)
		}
	}
	for selector, want := range map[string]int{
		"status.successful=0": 3, "status.successful=1": 0, "metadata.name=contract-p2": 1,
		"metadata.name=contract-p2,status.successful=0": 1,
	} {
		l := kube.JobList{Namespace: namespace, LabelSelector: "contract=p", FieldSelector: selector}
		if found := list(t, client, l); len(found) != want {
			t.Errorf("field selector %s finds %d Jobs, want %d", selector, len(found), want)
		}
	}
	err := client.EachJob(t.Context(), kube.JobList{Namespace: namespace, FieldSelector: "status.failed=0"}, func(*kube.Job) {})
	wantKind(t, err, kube.Refused)
}

// listed: a selector finds Jobs by a label; a deletion is of one UID and lasts
// until the pods are gone.
func listed(t *testing.T, client *kube.Client, namespace string) {
	job := labelled(t, client, namespace, "contract-e", "e")
	found := list(t, client, kube.JobList{Namespace: namespace, LabelSelector: "contract=e", Keys: []string{"contract", "slipway/transition-id", "none"}})
	if len(found) != 1 || found[0].UID != job.UID || found[0].Finished() || found[0].Created.IsZero() || !found[0].Suspended {
		t.Fatalf("listed %+v", found)
	}
	if l, a := found[0].Labels, found[0].Annotations; len(l) != 1 || l["contract"] != "e" || len(a) != 1 || a["slipway/transition-id"] != "t" {
		t.Errorf("kept labels %v and annotations %v", l, a)
	}
	if pods, err := client.Pods(t.Context(), namespace, []string{"contract-e", "contract-a"}); err != nil || len(pods) != 0 {
		t.Errorf("suspended Jobs have pods %+v, %v", pods, err)
	}
	if !found[0].Podless {
		t.Errorf("a suspended Job has had pods: %+v", found[0])
	}
	// The Job controller writes the event "Suspended" on a real cluster; a fake has
	// no controller.
	events, err := client.Events(t.Context(), namespace, "Job", "contract-e")
	if err != nil || kube.DiagnoseEvents(events) != nil {
		t.Errorf("events %+v, %v", events, err)
	}
	resumed := *found[0]
	resumed.Suspended = false
	if d, err := client.DiagnosePodless(t.Context(), &resumed); err != nil || d != nil {
		t.Errorf("diagnosis %v, %v", d, err)
	}
	deleted(t, client, namespace, job)
}

func deleted(t *testing.T, client *kube.Client, namespace string, job *kube.Job) {
	if err := client.DeleteJob(t.Context(), namespace, job.Name, "00000000-0000-4000-8000-00000000ffff"); err != nil {
		t.Errorf("deleting another UID: %v", err)
	}
	if again, err := client.Job(t.Context(), namespace, job.Name); err != nil || again.Deleting {
		t.Errorf("another UID's deletion: %+v, %v", again, err)
	}
	if err := client.DeleteJob(t.Context(), namespace, job.Name, job.UID); err != nil {
		t.Errorf("deleting: %v", err)
	}
	if again, err := client.Job(t.Context(), namespace, job.Name); err == nil && !again.Deleting {
		t.Errorf("still there: %+v", again)
	}
	if err := client.DeleteJob(t.Context(), namespace, job.Name, job.UID); err != nil {
		t.Errorf("deleting again: %v", err)
	}
}
