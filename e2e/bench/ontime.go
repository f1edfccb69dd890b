package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
)

// OnTime measures how far from their due times runs start, which are due every
// three seconds of three minutes: with the CronJob of deploy/ and its look-ahead, and
// with a resident Python worker.
type OnTime struct {
	World  *world.World // with a node
	Worker *prefectserver.Venv
	Out    io.Writer
}

const (
	onTimeRuns  = 60
	onTimeEvery = 3 * time.Second
)

// Run prints the table.
func (o *OnTime) Run(ctx context.Context) error {
	_, _ = fmt.Fprintf(o.Out, "\n### On time: %d runs due over %s\n\n| | claimed | Job created | RUNNING: median | earliest | latest |\n| --- | ---: | ---: | ---: | ---: | ---: |\n", onTimeRuns, onTimeRuns*onTimeEvery)
	for _, c := range []struct {
		name, pool string
		serve      func(ctx context.Context, pool string) (stop func() error, err error)
	}{
		{"CronJob a minute, look-ahead 60 s", "ontime-slipway", o.cronJob},
		{"python worker, resident", "ontime-worker", o.resident},
	} {
		if err := o.measure(ctx, c.name, c.pool, c.serve); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

func (o *OnTime) measure(ctx context.Context, name, pool string, serve func(context.Context, string) (func() error, error)) error {
	dues, err := o.order(ctx, pool)
	if err != nil {
		return err
	}
	stop, err := serve(ctx, pool)
	if err != nil {
		return err
	}
	var claimed, made, running []time.Duration
	for id, due := range dues {
		if _, err := o.World.Prefect.WaitForState(ctx, id, "COMPLETED"); err != nil {
			return fmt.Errorf("%w\n%s", err, o.World.Story(ctx, id))
		}
		at, err := o.times(ctx, id)
		if err != nil {
			return err
		}
		claimed, made, running = append(claimed, at[0].Sub(due)), append(made, at[1].Sub(due)), append(running, at[2].Sub(due))
	}
	for _, list := range [][]time.Duration{claimed, made, running} {
		slices.Sort(list)
	}
	median := func(list []time.Duration) string { return fmt.Sprintf("%+.1f s", list[len(list)/2].Seconds()) }
	_, _ = fmt.Fprintf(o.Out, "| %s | %s | %s | %s | %+.1f s | %+.1f s |\n", name, median(claimed), median(made), median(running), running[0].Seconds(), running[len(running)-1].Seconds())
	return stop()
}

// order makes the runs, the first of them due when the CronJob has fired once.
func (o *OnTime) order(ctx context.Context, pool string) (map[string]time.Time, error) {
	if err := o.World.CreatePool(ctx, pool); err != nil {
		return nil, err
	}
	flow, err := o.World.Prefect.CreateFlow(ctx, "probe")
	if err != nil {
		return nil, err
	}
	deployment, err := o.World.Prefect.CreateDeployment(ctx, flow, pool, pool, map[string]any{"job_variables": map[string]any{
		"image": world.Probe, "namespace": world.Namespace, "service_account_name": "worker", "name": pool, "env": map[string]string{"PROBE_SECONDS": "1"},
	}})
	if err != nil {
		return nil, err
	}
	first := time.Now().Truncate(time.Minute).Add(90 * time.Second)
	dues := map[string]time.Time{}
	for i := range onTimeRuns {
		due := first.Add(time.Duration(i) * onTimeEvery)
		id, err := o.World.Prefect.CreateRun(ctx, deployment, due, nil)
		if err != nil {
			return nil, err
		}
		dues[id] = due
	}
	return dues, nil
}

// times are those of the claim, of the Job, and of RUNNING.
func (o *OnTime) times(ctx context.Context, run string) (at [3]time.Time, err error) {
	states, err := o.World.Prefect.States(ctx, run)
	if err != nil {
		return at, err
	}
	for _, s := range states {
		switch {
		case s.Type == "PENDING" && at[0].IsZero():
			at[0] = s.Timestamp
		case s.Type == "RUNNING" && at[2].IsZero():
			at[2] = s.Timestamp
		}
	}
	jobs, err := o.World.Cluster.Client.BatchV1().Jobs(world.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + run})
	if err == nil && len(jobs.Items) != 1 {
		err = fmt.Errorf("run %s has %d Jobs", run, len(jobs.Items))
	}
	if err != nil {
		return at, err
	}
	at[1] = jobs.Items[0].CreationTimestamp.Time
	return at, nil
}

func (o *OnTime) cronJob(ctx context.Context, pool string) (func() error, error) {
	o.World.SlipwayImage("slipway:latest")
	documents, err := world.Overlay("overlays/cronjob")
	if err != nil {
		return nil, err
	}
	for _, data := range documents {
		data = bytes.ReplaceAll(data, []byte("http://prefect-server.prefect.svc:4200/api"), []byte(o.World.Prefect.API))
		data = bytes.ReplaceAll(data, []byte("SLIPWAY_WORK_POOLS: worker-pool"), []byte("SLIPWAY_WORK_POOLS: "+pool))
		if err := o.World.Cluster.Apply(ctx, "", bytes.NewReader(data)); err != nil {
			return nil, err
		}
	}
	return func() error {
		return o.World.Cluster.Client.BatchV1().CronJobs("slipway").Delete(ctx, "slipway", metav1.DeleteOptions{})
	}, nil
}

func (o *OnTime) resident(_ context.Context, pool string) (func() error, error) {
	home := filepath.Join(o.World.Dir, "worker")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command(o.Worker.Bin("prefect"), "worker", "start", "--pool", pool, "--type", "kubernetes", "--install-policy", "never")
	cmd.Env = append(o.Worker.Environ(home), "PREFECT_API_URL="+o.World.Prefect.API, "KUBECONFIG="+o.World.Cluster.AdminKubeconfig(),
		// It puts runs of a second or so back to PENDING (prefect-kubernetes 0.8.0).
		"PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_ENABLED=false")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		_ = cmd.Wait() // ended by us
		return nil
	}, nil
}
