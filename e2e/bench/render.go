package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"slipway/e2e/world"
	"slipway/render"
)

// rendering compares one Job's rendering, from a template that is parsed already:
// by this package, and by the Python worker's own functions.
func (b *Bench) rendering(ctx context.Context) error {
	var raw json.RawMessage
	if err := b.World.Prefect.Call(ctx, "GET", "/work_pools/"+pool, nil, &raw); err != nil {
		return err
	}
	run, err := b.documents(ctx)
	if err != nil {
		return err
	}
	template, err := render.Parse(raw, render.Options{As: render.V3, PrefectVersion: b.Worker.Version, PythonVersion: "3.11", WorkerName: "bench", Namespace: "default"})
	if err != nil {
		return err
	}
	var fault error
	ours := testing.Benchmark(func(t *testing.B) {
		t.ReportAllocs()
		for t.Loop() {
			if _, err := template.Render(run, render.Documents{}); err != nil {
				fault = err
			}
		}
	})
	if fault != nil {
		return fault
	}
	theirs, err := b.pythonRendering(ctx, raw, run)
	if err != nil {
		return err
	}
	mine := time.Duration(ours.NsPerOp())
	b.say("| | microseconds | allocations | bytes | times slipway's |")
	b.say("| --- | ---: | ---: | ---: | ---: |")
	b.say("| slipway | %.1f | %d | %d | 1.0 |", float64(mine.Nanoseconds())/1000, ours.AllocsPerOp(), ours.AllocedBytesPerOp())
	b.say("| python worker | %.1f | | | %.0f |", float64(theirs.Nanoseconds())/1000, theirs.Seconds()/mine.Seconds())
	return nil
}

// documents are a flow run of the bench's deployment, its deployment and its flow.
func (b *Bench) documents(ctx context.Context) (render.Run, error) {
	id, err := b.World.Prefect.CreateRun(ctx, b.deployment, time.Now().Add(time.Hour), nil)
	if err != nil {
		return render.Run{}, err
	}
	var run render.Run
	var flow struct {
		ID string `json:"flow_id"`
	}
	if err := b.World.Prefect.Call(ctx, "GET", "/flow_runs/"+id, nil, &run.FlowRun); err != nil {
		return run, err
	}
	if err := b.World.Prefect.Call(ctx, "GET", "/deployments/"+b.deployment, nil, &run.Deployment); err != nil {
		return run, err
	}
	if err := json.Unmarshal(run.Deployment, &flow); err != nil {
		return run, err
	}
	run.Suffix = "12345678"
	return run, b.World.Prefect.Call(ctx, "GET", "/flows/"+flow.ID, nil, &run.Flow)
}

// pythonRendering is the time per Job of the worker's own functions.
func (b *Bench) pythonRendering(ctx context.Context, pool json.RawMessage, run render.Run) (time.Duration, error) {
	input := marshal(map[string]any{"pool": pool, "flow_run": run.FlowRun, "deployment": run.Deployment, "flow": run.Flow})
	script := filepath.Join(world.Root(), "e2e", "bench", "render.py")
	cmd := exec.CommandContext(ctx, b.Worker.Bin("python"), script)
	cmd.Env = append(b.Worker.Environ(b.World.Dir), "PREFECT_API_URL="+b.World.Prefect.API, "INPUT="+string(input))
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("render.py: %w: %s", err, out)
	}
	seconds, err := strconv.ParseFloat(string(out), 64)
	return time.Duration(seconds * float64(time.Second)), err
}
