// Package bench measures Slipway beside the Python worker and beside the servers'
// own limit, in one run on one machine. Counts and ratios travel, seconds do not.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
)

// Bench is one run of all measurements. Its world has no node: pods would share
// the processors that are measured.
type Bench struct {
	World  *world.World
	Worker *prefectserver.Venv // with prefect-kubernetes
	Runs   int                 // due flow runs for each contestant
	Out    io.Writer

	meter      *meter
	prepared   *batchv1.Job // for the floor
	deployment string
}

const pool = "bench"

// contestant does all that is due, once.
type contestant struct {
	name string
	work func(context.Context) (Cost, error)
}

// Run measures everything and prints the tables.
func (b *Bench) Run(ctx context.Context) (err error) {
	if b.meter, err = newMeter(b.World.Prefect.URL); err != nil {
		return err
	}
	defer b.meter.Close()
	if err := b.seed(ctx); err != nil {
		return err
	}
	contestants := []contestant{
		{"slipway dispatch", b.slipway},
		{"python worker --run-once", b.python},
	}
	b.say("\n### Nothing due\n")
	if err := b.table(ctx, contestants, 0); err != nil {
		return err
	}
	b.say("\n### %d due flow runs, default job template\n", b.Runs)
	contestants = append(contestants, contestant{"floor: prepared bodies, 8 in flight", b.floor})
	if err := b.table(ctx, contestants, b.Runs); err != nil {
		return err
	}
	b.say("\n### Rendering one Job, default job template\n")
	return b.rendering(ctx)
}

func (b *Bench) say(format string, args ...any) { _, _ = fmt.Fprintf(b.Out, format+"\n", args...) }

// table lets each contestant do the same work; ratios are to the first.
func (b *Bench) table(ctx context.Context, contestants []contestant, runs int) error {
	b.say("| | wall s | CPU s | peak MiB | requests to Prefect | Jobs | wall, CPU, memory, requests: times slipway's |")
	b.say("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
	var first Cost
	for i, c := range contestants {
		if err := b.order(ctx, runs); err != nil {
			return err
		}
		cost, err := c.work(ctx)
		if err != nil {
			return err
		}
		jobs, err := b.takeJobs(ctx)
		if err != nil {
			return err
		}
		if jobs != runs {
			return fmt.Errorf("%s made %d Jobs for %d runs", c.name, jobs, runs)
		}
		if i == 0 {
			first = cost
		}
		b.say("| %s | %.2f | %.2f | %.0f | %d | %d | %s |", c.name, cost.Wall.Seconds(), cost.CPU.Seconds(), float64(cost.Memory)/(1<<20), cost.Requests, jobs, ratios(cost, first))
	}
	return nil
}

func ratios(c, to Cost) string {
	return fmt.Sprintf("%.1f, %.1f, %.1f, %.1f", c.Wall.Seconds()/to.Wall.Seconds(), c.CPU.Seconds()/to.CPU.Seconds(),
		float64(c.Memory)/float64(to.Memory), float64(c.Requests)/float64(to.Requests))
}

// seed makes a work pool with the Python worker's own default template.
func (b *Bench) seed(ctx context.Context) error {
	template, err := exec.CommandContext(ctx, b.Worker.Bin("python"), "-c",
		"import json\nfrom prefect_kubernetes.worker import KubernetesWorker as K\nprint(json.dumps(K.get_default_base_job_template()))").Output()
	if err != nil {
		return fmt.Errorf("read the default base job template: %w", err)
	}
	if err := b.World.Prefect.CreatePool(ctx, pool, template); err != nil {
		return err
	}
	flow, err := b.World.Prefect.CreateFlow(ctx, "bench")
	if err != nil {
		return err
	}
	b.deployment, err = b.World.Prefect.CreateDeployment(ctx, flow, "bench", pool, map[string]any{
		"job_variables": map[string]any{"namespace": world.Namespace, "image": "bench:1", "finished_job_ttl": 300},
	})
	return err
}

// order makes flow runs that are due now.
func (b *Bench) order(ctx context.Context, n int) error {
	for range n {
		if _, err := b.World.Prefect.CreateRun(ctx, b.deployment, time.Now(), nil); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bench) slipway(ctx context.Context) (Cost, error) {
	cmd := exec.CommandContext(ctx, b.World.Binary, "dispatch", "-o", "json")
	cmd.Env = append(b.World.Env(), "PREFECT_API_URL="+b.meter.URL+"/api", "SLIPWAY_WORK_POOLS="+pool, "SLIPWAY_LOG_LEVEL=error")
	return b.meter.run(cmd)
}

func (b *Bench) python(ctx context.Context) (Cost, error) {
	home := filepath.Join(b.World.Dir, "worker")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return Cost{}, err
	}
	cmd := exec.CommandContext(ctx, b.Worker.Bin("prefect"), "worker", "start", "--pool", pool, "--type", "kubernetes", "--run-once", "--install-policy", "never")
	cmd.Env = append(b.Worker.Environ(home), "PREFECT_API_URL="+b.meter.URL+"/api", "KUBECONFIG="+b.World.Cluster.AdminKubeconfig())
	return b.meter.run(cmd)
}

// marshal encodes what always encodes.
func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
