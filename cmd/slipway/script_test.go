package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"slipway/kube/kubetest"
	"slipway/prefect/prefecttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"slipway": main})
}

// TestScripts is the command line's specification. Each script has a Prefect
// server and an API server of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			server := prefecttest.New(t)
			server.AddPool("k8s", map[string]any{"type": "kubernetes", "base_job_template": jobTemplate(map[string]any{"image": "i"})})
			server.AddPool("blocks", map[string]any{"type": "kubernetes", "base_job_template": jobTemplate(map[string]any{
				"image": "{{ prefect.blocks.secret.image }}", "args": "{{ prefect.blocks.secret.args }}",
			})})
			server.AddBlock("secret", "image", map[string]any{"value": "hush-image"})
			server.AddBlock("secret", "args", map[string]any{"value": "run \"hush-args"})
			server.AddDeployment("blocks", "etl", "blocks", nil)
			server.AddDeployment("k8s", "etl", "demo", nil)
			cluster := kubetest.New(t, "dev")
			kubeconfig := strings.ReplaceAll(kubeconfigFile, "SERVER", cluster.Config().Host)
			env.Setenv("PREFECT", server.URL)
			env.Setenv("KUBECONFIG", env.WorkDir+"/kubeconfig")
			return os.WriteFile(env.WorkDir+"/kubeconfig", []byte(kubeconfig), 0o600)
		},
	})
}

// jobTemplate is a base job template with a container of its own.
func jobTemplate(container map[string]any) map[string]any {
	container["name"] = "prefect-job"
	return map[string]any{
		"variables": map[string]any{"properties": map[string]any{}},
		"job_configuration": map[string]any{"job_manifest": map[string]any{
			"apiVersion": "batch/v1", "kind": "Job", "spec": map[string]any{"template": map[string]any{"spec": map[string]any{
				"restartPolicy": "Never", "completions": 1, "parallelism": 1, "containers": []any{container},
			}}},
		}},
	}
}

const kubeconfigFile = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "SERVER"}}]
users: [{name: u, user: {}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`
