package parity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"slipway/dispatch"
	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
	"slipway/kube"
)

// TestObserver holds the events of pods to those of the Python observer's handler:
// recorded pods, and such with parts of one another.
func TestObserver(t *testing.T) {
	venv, err := prefectserver.Install(t.Context(), os.Stderr, prefectserver.Worker3)
	if err != nil {
		t.Fatal(err)
	}
	pods := observed(t)
	var lines bytes.Buffer
	for _, pod := range pods {
		if err := json.NewEncoder(&lines).Encode(pod); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), venv.Bin("python"), filepath.Join(world.Root(), "e2e", "parity", "observer.py"))
	cmd.Env, cmd.Stdin = venv.Environ(t.TempDir()), &lines
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	theirs := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	categories := map[string]int{}
	for i, pod := range pods {
		status := podOf(t, pod)
		event := dispatch.PodEvent(status, venv.Version)
		var want struct {
			ID, Event, Category string
			Occurred            time.Time
			Resource            map[string]string
			Related             []map[string]string
		}
		if err := json.Unmarshal(theirs[i], &want); err != nil {
			t.Fatal(err)
		}
		category := ""
		if status.Diagnosis.KnownToPrefect() {
			category = string(status.Diagnosis.Category)
		}
		categories[category]++
		related := make([]map[string]string, len(event.Related))
		for i := range event.Related {
			related[i] = event.Related[i]
		}
		got := fmt.Sprint(event.ID, event.Event, category, event.Resource, related)
		if wants := fmt.Sprint(want.ID, want.Event, want.Category, want.Resource, want.Related); got != wants || !event.Occurred.IsZero() && !event.Occurred.Equal(want.Occurred) {
			t.Errorf("pod %v:\n%s at %s\nwant\n%s at %s", pod["metadata"], got, event.Occurred, wants, want.Occurred)
		}
	}
	if len(categories) < 8 {
		t.Errorf("only these were met: %v", categories)
	}
	t.Logf("%d events equal: %v", len(pods), categories)
}

// observed are the recorded pods, and mixtures of two at a time.
func observed(t *testing.T) []doc {
	data, err := os.ReadFile(filepath.Join(world.Root(), "kube", "testdata", "pods.json"))
	if err != nil {
		t.Fatal(err)
	}
	var recorded map[string]doc
	if err := json.Unmarshal(data, &recorded); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(recorded))
	draw := rand.New(rand.NewPCG(5, 0))
	workers := []string{"slipway", "My_Worker.1", "a--b", "A._b-", ""} // as labels have them; ids of resources have slugs
	var pods []doc
	add := func(pod doc) {
		again := doc{}
		copied, err := json.Marshal(pod)
		if err == nil {
			err = json.Unmarshal(copied, &again)
		}
		if err != nil {
			t.Fatal(err)
		}
		metadata := again["metadata"].(doc)
		metadata["labels"] = doc{
			"prefect.io/flow-run-id": "9e9fab33-0000-4000-8000-000000000001", "prefect.io/flow-run-name": "zircon-capuchin",
			"prefect.io/flow-id": "9e9fab33-0000-4000-8000-000000000002", "prefect.io/flow-name": "etl",
			"prefect.io/deployment-id": "9e9fab33-0000-4000-8000-000000000003", "prefect.io/deployment-name": "demo",
			"prefect.io/work-pool-id": "9e9fab33-0000-4000-8000-000000000004", "prefect.io/work-pool-name": "k8s",
			"prefect.io/worker-name": workers[len(pods)%len(workers)], "job-name": "x",
		}
		pods = append(pods, again)
	}
	for _, name := range names {
		add(recorded[name])
	}
	for range 200 {
		a, b := recorded[names[draw.IntN(len(names))]], recorded[names[draw.IntN(len(names))]]
		mixed := maps.Clone(a["status"].(doc))
		for _, key := range []string{"phase", "conditions", "containerStatuses", "initContainerStatuses", "reason", "message"} {
			if draw.IntN(3) == 0 {
				delete(mixed, key)
				if value, there := b["status"].(doc)[key]; there {
					mixed[key] = value
				}
			}
		}
		add(doc{"metadata": a["metadata"], "spec": a["spec"], "status": mixed})
	}
	return pods
}

// podOf is what package kube makes of a pod.
func podOf(t *testing.T, pod doc) kube.PodStatus {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(doc{"kind": "PodList", "apiVersion": "v1", "metadata": doc{}, "items": []any{pod}})
	}))
	defer server.Close()
	client, err := kube.New(&rest.Config{Host: server.URL}, kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := client.Pods(t.Context(), "default", []string{"x"})
	if err != nil || len(pods) != 1 {
		t.Fatalf("%v, %v", pods, err)
	}
	return pods[0]
}
