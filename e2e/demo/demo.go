// Package demo shows the whole system at work on one machine, step by step. What
// it prints is read from the servers, not from Slipway, and it fails if any of it
// is untrue.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
)

// waitLimit is how long the demo waits for something, on however busy a machine.
const waitLimit = 5 * time.Minute

// Demo is one showing.
type Demo struct {
	World *world.World
	Out   io.Writer

	started time.Time
}

// Run shows everything.
func (d *Demo) Run(ctx context.Context) error {
	d.started = time.Now()
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Deploy examples/etl with `prefect --no-prompt deploy --all`", d.deploy},
		{"A run on demand: `prefect deployment run`, then `slipway dispatch`", d.onDemand},
		{"The next minute's scheduled run, claimed ahead of its time", d.scheduled},
		{"Precedence of job variables: flow run > deployment > work pool", d.precedence},
		{"A task that fails at first is retried", d.retried},
		{"The Prefect UI", d.ui},
	} {
		d.say("\n== %s", step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	d.say("\nEverything above was read from the servers. It took %s.", time.Since(d.started).Round(time.Second))
	d.say("The process node stands in for a kubelet: flows ran as local processes, not in containers.")
	return nil
}

func (d *Demo) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.Out, format+"\n", args...)
}

func (d *Demo) deploy(ctx context.Context) error {
	if _, err := d.World.Python(ctx, filepath.Join(world.Root(), "examples", "etl"), "prefect", "--no-prompt", "deploy", "--all"); err != nil {
		return err
	}
	var deployments []struct {
		Name      string         `json:"name"`
		Version   string         `json:"version"`
		PoolName  string         `json:"work_pool_name"`
		Variables map[string]any `json:"job_variables"`
		Overrides map[string]any `json:"infra_overrides"` // as 2.20 sends them
		Schedules []struct {
			Schedule map[string]any `json:"schedule"`
		} `json:"schedules"`
	}
	if err := d.World.Prefect.Call(ctx, "POST", "/deployments/filter", map[string]any{
		"sort":       "NAME_ASC",
		"work_pools": map[string]any{"name": map[string]any{"any_": []string{world.Pool}}},
	}, &deployments); err != nil {
		return err
	}
	for i := range deployments {
		if len(deployments[i].Overrides) > 0 {
			deployments[i].Variables = deployments[i].Overrides
		}
	}
	if len(deployments) != 2 || deployments[0].Version != "1.0" || len(deployments[0].Schedules) != 1 || len(deployments[0].Variables) != 6 {
		return fmt.Errorf("the server has these deployments: %+v", deployments)
	}
	for _, one := range deployments {
		schedule := "no schedule"
		if len(one.Schedules) > 0 {
			schedule = fmt.Sprintf("cron %q %s", one.Schedules[0].Schedule["cron"], one.Schedules[0].Schedule["timezone"])
		}
		variables, _ := json.Marshal(one.Variables)
		d.say("Prefect:    deployment %s version %q in pool %s, %s, job variables %s", one.Name, one.Version, one.PoolName, schedule, variables)
	}
	return nil
}

func (d *Demo) onDemand(ctx context.Context) error {
	id, err := d.order(ctx, "demo")
	if err != nil {
		return err
	}
	if err := d.dispatch(ctx); err != nil {
		return err
	}
	_, err = d.showRun(ctx, id)
	return err
}

var runID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// order asks for a run as a user does, and returns its id.
func (d *Demo) order(ctx context.Context, deployment string, more ...string) (string, error) {
	args := append([]string{"deployment", "run", "repo-info/" + deployment}, more...)
	out, err := d.World.Python(ctx, d.World.Dir, "prefect", args...)
	if err != nil {
		return "", err
	}
	id := runID.FindString(out)
	if id == "" {
		return "", fmt.Errorf("no flow run id in:\n%s", out)
	}
	run, err := d.World.Prefect.FlowRun(ctx, id)
	if err != nil {
		return "", err
	}
	d.say("Prefect:    flow run %s (%s) is %s", run.ID, run.Name, run.StateName)
	return id, nil
}

// dispatch triggers one pass, as a CronJob would.
func (d *Demo) dispatch(ctx context.Context) error {
	started := time.Now()
	result, err := d.World.Slipway(ctx, "dispatch")
	if err != nil {
		return err
	}
	if result.Code != 0 {
		return fmt.Errorf("slipway dispatch ended with %d:\n%s%s", result.Code, result.Stdout, result.Stderr)
	}
	d.say("trigger:    slipway dispatch (%d ms)", time.Since(started).Milliseconds())
	for line := range strings.Lines(result.Stdout) {
		d.say("            | %s", strings.TrimRight(line, "\n"))
	}
	return nil
}

// showRun waits for a run to complete and shows what the servers know of it.
func (d *Demo) showRun(ctx context.Context, id string) (*batchv1.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	run, err := d.World.Prefect.WaitForState(ctx, id, "COMPLETED")
	if err != nil {
		return nil, err
	}
	states, err := d.World.Prefect.States(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, s := range states {
		d.say("Prefect:    %s  %s", s.Timestamp.Local().Format("15:04:05.000"), s.Name)
	}
	job, err := d.finishedJob(ctx, id)
	if err != nil {
		return nil, err
	}
	d.say("Kubernetes: Job %s/%s uid %s complete at %s", job.Namespace, job.Name, job.UID, job.Status.CompletionTime.Local().Format("15:04:05"))
	// 2.x has the cluster's UID before it.
	if name := job.Namespace + ":" + job.Name; run.PID != name && !strings.HasSuffix(run.PID, ":"+name) {
		return nil, fmt.Errorf("the infrastructure pid %q in Prefect does not name that Job", run.PID)
	}
	return job, d.showLog(ctx, job)
}

// finishedJob waits for the Job of a run, of which there must be exactly one.
func (d *Demo) finishedJob(ctx context.Context, id string) (*batchv1.Job, error) {
	for {
		jobs, err := d.World.Cluster.Client.BatchV1().Jobs(world.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "prefect.io/flow-run-id=" + id})
		if err != nil {
			return nil, err
		}
		if len(jobs.Items) != 1 {
			return nil, fmt.Errorf("flow run %s has %d Jobs, not 1", id, len(jobs.Items))
		}
		if job := &jobs.Items[0]; job.Status.CompletionTime != nil {
			return job, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the Job of flow run %s does not complete: %w", id, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// showLog shows what the flow printed, from the pod's log.
func (d *Demo) showLog(ctx context.Context, job *batchv1.Job) error {
	logs, err := d.World.PodLogs(ctx, job.Namespace, "job-name="+job.Name)
	if err != nil {
		return err
	}
	if len(logs) != 1 {
		return fmt.Errorf("job %s has %d pods, not 1", job.Name, len(logs))
	}
	log := strings.Join(slices.Collect(maps.Values(logs)), "")
	for line := range strings.Lines(log) {
		if strings.Contains(line, " answered 200") {
			d.say("pod log:    %s", strings.TrimSpace(line))
			return nil
		}
	}
	return fmt.Errorf("the pod's log does not hold what the flow prints:\n%s", log)
}

// scheduled follows the next run that the schedule made.
func (d *Demo) scheduled(ctx context.Context) error {
	var runs []prefectserver.FlowRun
	if err := d.World.Prefect.Call(ctx, "POST", "/flow_runs/filter", map[string]any{
		"sort":       "NEXT_SCHEDULED_START_TIME_ASC",
		"work_pools": map[string]any{"name": map[string]any{"any_": []string{world.Pool}}},
		"flow_runs":  map[string]any{"expected_start_time": map[string]any{"after_": time.Now().UTC().Format(time.RFC3339Nano)}},
	}, &runs); err != nil {
		return err
	}
	var next *prefectserver.FlowRun
	for i := range runs {
		if runs[i].AutoScheduled && (next == nil || runs[i].ExpectedStartTime.Before(*next.ExpectedStartTime)) {
			next = &runs[i]
		}
	}
	if next == nil {
		return errors.New("the schedule has made no run: the scheduler inserts some every minute, so try again")
	}
	due := next.ExpectedStartTime
	d.say("Prefect:    flow run %s (%s) is due at %s, in %s", next.ID, next.Name, due.Local().Format("15:04:05"), time.Until(*due).Round(time.Second))
	if next.StateType == "SCHEDULED" {
		if err := d.dispatch(ctx); err != nil {
			return err
		}
	}
	early, err := d.World.Prefect.FlowRun(ctx, next.ID)
	if err != nil {
		return err
	}
	if ahead := time.Until(*due); ahead > 0 {
		if early.StateType != "PENDING" {
			return fmt.Errorf("the run is %s before its time, not PENDING", early.StateName)
		}
		d.say("Prefect:    %s before its time it is %s: its pod waits", ahead.Round(time.Second), early.StateName)
	}
	if _, err := d.showRun(ctx, next.ID); err != nil {
		return err
	}
	run, err := d.World.Prefect.FlowRun(ctx, next.ID)
	if err != nil {
		return err
	}
	late := run.StartTime.Sub(*due)
	d.say("Prefect:    it started %+d ms from when it was due", late.Milliseconds())
	// The engine is told to wait in whole seconds (Prefect 3.8.8), so half a
	// second early is on time.
	if late < -time.Second {
		return fmt.Errorf("it started %s before it was due", -late)
	}
	return nil
}

// precedence shows a variable of the flow run that won over the deployment's, and
// ones of the deployment that won over the work pool's defaults.
func (d *Demo) precedence(ctx context.Context) error {
	id, err := d.order(ctx, "demo", "--job-variable", "finished_job_ttl=600")
	if err != nil {
		return err
	}
	if err := d.dispatch(ctx); err != nil {
		return err
	}
	job, err := d.showRun(ctx, id)
	if err != nil {
		return err
	}
	ttl := job.Spec.TTLSecondsAfterFinished
	if ttl == nil || *ttl != 600 {
		return fmt.Errorf("the Job's ttlSecondsAfterFinished is %v, not the flow run's 600", ttl)
	}
	d.say("Kubernetes: ttlSecondsAfterFinished %d: the flow run's 600 won over the deployment's 300", *ttl)
	namespace, err := d.poolDefault(ctx, "namespace")
	if err != nil {
		return err
	}
	if job.Namespace != world.Namespace || namespace == job.Namespace {
		return fmt.Errorf("the Job is in namespace %s; the pool's default is %v", job.Namespace, namespace)
	}
	d.say("Kubernetes: namespace %s: the deployment's won over the pool's default %q", job.Namespace, namespace)
	pod := job.Spec.Template.Spec
	if account, policy := pod.ServiceAccountName, pod.Containers[0].ImagePullPolicy; account != "worker" || policy != corev1.PullIfNotPresent {
		return fmt.Errorf("the Job has service account %q and image pull policy %q", account, policy)
	}
	d.say("Kubernetes: serviceAccountName %s, imagePullPolicy %s: as the deployment has them", pod.ServiceAccountName, pod.Containers[0].ImagePullPolicy)
	return nil
}

// poolDefault reads the default of a variable from the work pool.
func (d *Demo) poolDefault(ctx context.Context, name string) (any, error) {
	var pool struct {
		Template struct {
			Variables struct {
				Properties map[string]map[string]any `json:"properties"`
			} `json:"variables"`
		} `json:"base_job_template"`
	}
	err := d.World.Prefect.Call(ctx, "GET", "/work_pools/"+world.Pool, nil, &pool)
	return pool.Template.Variables.Properties[name]["default"], err
}

func (d *Demo) retried(ctx context.Context) error {
	id, err := d.order(ctx, "demo-retry")
	if err != nil {
		return err
	}
	if err := d.dispatch(ctx); err != nil {
		return err
	}
	if _, err := d.showRun(ctx, id); err != nil {
		return err
	}
	var tasks []struct {
		Name     string `json:"name"`
		RunCount int    `json:"run_count"`
		State    string `json:"state_name"`
	}
	deadline := time.Now().Add(waitLimit) // the server records task runs a little later
	for {
		if err := d.World.Prefect.Call(ctx, "POST", "/task_runs/filter", map[string]any{"flow_runs": map[string]any{"id": map[string]any{"any_": []string{id}}}}, &tasks); err != nil {
			return err
		}
		if len(tasks) == 1 && tasks[0].RunCount == 2 && tasks[0].State == "Completed" {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server shows these task runs: %+v", tasks)
		}
		time.Sleep(200 * time.Millisecond)
	}
	d.say("Prefect:    task run %s is %s after %d attempts", tasks[0].Name, tasks[0].State, tasks[0].RunCount)
	return nil
}

func (d *Demo) ui(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.World.Prefect.URL, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return fmt.Errorf("%s answers %s", d.World.Prefect.URL, resp.Status)
	}
	var pool struct {
		Status string `json:"status"`
	}
	if err := d.World.Prefect.Call(ctx, "GET", "/work_pools/"+world.Pool, nil, &pool); err != nil {
		return err
	}
	if pool.Status != "READY" {
		return fmt.Errorf("the work pool is %s, not READY", pool.Status)
	}
	d.say("Prefect:    %s (work pool %s is %s)", d.World.Prefect.URL, world.Pool, pool.Status)
	return nil
}
