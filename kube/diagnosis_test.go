package kube_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"slipway/kube"
	"slipway/kube/kubetest"
)

// recorded are pods as a kubelet, a scheduler and a Job controller of 1.36.3 left
// them. The two evicted ones are the exception: their statuses are put together
// from the words of the kubelet's source (pkg/kubelet/eviction).
func recorded(t *testing.T) map[string]kubetest.Doc {
	t.Helper()
	data, err := os.ReadFile("testdata/pods.json")
	if err != nil {
		t.Fatal(err)
	}
	var pods map[string]kubetest.Doc
	if err := json.Unmarshal(data, &pods); err != nil {
		t.Fatal(err)
	}
	return pods
}

// answerPods lets a server list one pod.
func answerPods(t *testing.T, server *kubetest.Server, pod kubetest.Doc) *kube.Client {
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/pods") {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(kubetest.Doc{"kind": "PodList", "apiVersion": "v1", "metadata": kubetest.Doc{}, "items": []any{pod}})
		return true
	})
	return newClient(t, server.Config(), kube.Options{})
}

func TestDiagnoses(t *testing.T) {
	server := kubetest.New(t, "default")
	pods := recorded(t)
	wanted := map[string]struct {
		category kube.Category // "": healthy
		words    string        // a part of them
	}{
		"image-pull":    {kube.ImagePullError, `container prefect-job: ErrImagePull: failed to pull and unpack image "registry.invalid/flow:1"`},
		"never-pull":    {kube.ConfigError, "ErrImageNeverPull"},
		"invalid-image": {kube.ConfigError, "must be lowercase"},
		"exit-code":     {kube.Exited, "exit code 7 Error"},
		"crash-loop":    {kube.Exited, "exit code 1"},
		"oom":           {kube.OOMKilled, "container prefect-job: it was killed for using more memory"},
		"oom-loop":      {kube.OOMKilled, "memory"},
		"no-secret":     {kube.ConfigError, `secret "nowhere" not found`},
		"no-command":    {kube.Exited, "exit code 128"},
		"too-big":       {kube.InsufficientResources, "Insufficient cpu"},
		"no-node":       {kube.NodeAffinity, "node affinity/selector"},
		"tainted":       {kube.Taint, "untolerated taint"},
		"init-fails":    {kube.Exited, "container prepare: exit code 3"},
		"evicted":       {kube.Evicted, "The node was low on resource: memory."},
		"backoff":       {kube.CrashLoop, "exit code 4"},
		"healthy":       {},
		"succeeds":      {},
	}
	for name, pod := range pods {
		want, known := wanted[name]
		found, err := answerPods(t, server, pod).Pods(t.Context(), "default", []string{name})
		if err != nil || len(found) != 1 || !known {
			t.Fatalf("%s: %v, %v", name, found, err)
		}
		got := found[0].Diagnosis
		switch {
		case want.category == "" && got != nil:
			t.Errorf("%s is %s", name, got)
		case want.category != "" && (got == nil || got.Category != want.category || !strings.Contains(got.Words, want.words) || got.Advice == ""):
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if found[0].Job != name && found[0].Job != "oom-loop" && name != "backoff" || found[0].Phase == "" || found[0].Created.IsZero() || found[0].Since.IsZero() || !slices.Equal(found[0].Main, []string{"prefect-job"}) {
			t.Errorf("%s: %+v", name, found[0])
		}
	}
	for name := range wanted {
		if pods[name] == nil {
			t.Errorf("there is no pod %s", name)
		}
	}
}
