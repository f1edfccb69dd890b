package dispatch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// flight is one flow run on its way from the poll to its Job.
type flight struct {
	*pass
	run    prefect.FlowRun
	claim  claim
	job    *render.Job
	name   string // of the Job
	swept  bool   // by a sweep: its owner may have tried before
	unsure bool   // an attempt to create the Job may have had its effect
	// a ready API server has refused the Job once for want of rights
	forbidden bool
	line      RunReport
}

// fly takes a run as far as it goes, and returns its line of the report.
func (p *pass) fly(ctx context.Context, run prefect.FlowRun) *RunReport {
	f := &flight{pass: p, run: run, line: RunReport{ID: run.ID, Name: run.Name}}
	started := p.Now()
	f.takeOff(ctx)
	f.line.Milliseconds = p.Now().Sub(started).Milliseconds()
	p.Log.LogAttrs(ctx, slog.LevelInfo, "flow run",
		slog.String("work_pool", p.report.Pool), slog.String("flow_run_id", run.ID), slog.String("outcome", string(f.line.Outcome)),
		slog.String("namespace", f.line.Namespace), slog.String("job", f.line.Job),
		slog.Int64("milliseconds", f.line.Milliseconds), slog.String("reason", f.line.Reason))
	return &f.line
}

// end says what became of the run.
func (f *flight) end(outcome Outcome, format string, args ...any) {
	f.line.Outcome = outcome
	f.line.Reason = f.redact(fmt.Sprintf(format, args...))
}

// takeOff does everything that has no effect, so that a claim is followed by
// its Job without delay.
func (f *flight) takeOff(ctx context.Context) {
	if wait := f.tooEarly(); wait != "" {
		f.end(Skipped, "%s", wait)
		return
	}
	if f.deploymentGone(ctx) {
		return
	}
	id, err := NewClaimID(f.cluster, f.run.ID)
	if err != nil {
		f.end(Failed, "%v", err)
		return
	}
	f.claim = claim{id: id, due: due(f.run)}
	job, err := f.render(ctx)
	var fault *render.Fault
	if err != nil && !errors.As(err, &fault) {
		f.end(Failed, "read what its Job refers to: %s", f.plain(err))
		return
	}
	if fault == nil {
		f.job, f.name = job, jobName(job.NameBase, id)
		f.line.Warnings = f.redactAll(job.Warnings())
		if why := f.whyShut(job.Namespace); why != "" {
			f.end(Skipped, "%s", why)
			return
		}
		if f.formerJobAtWork(ctx) {
			return
		}
	}
	if !f.take() {
		f.end(Skipped, "the limit of %d runs for this pass is reached", f.req.Limit)
		return
	}
	f.own(ctx, fault)
	if f.line.Outcome != Submitted {
		f.giveUpPlace()
	}
}

// lastAttempt is the time for an attempt begun just before the deadline, and
// for writing down what came of it.
const lastAttempt = 30 * time.Second

// own claims the run and then does what only its owner may.
func (f *flight) own(ctx context.Context, fault *render.Fault) {
	// From here on the caller's going away changes nothing: a claim that is
	// left alone waits for the next sweep.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.Deadline+lastAttempt)
	defer cancel()
	if !f.propose(ctx) {
		return
	}
	if fault != nil {
		f.crash(ctx, "Slipway cannot render the Job of this flow run: "+fault.Error())
		return
	}
	f.submit(ctx)
}

// tooEarly explains why a run is not claimed before it is due; "" if it may be.
// An early claim holds the slot of a deployment's concurrency limit, and its
// lease ends 300 s after the claim (Prefect 3.8.8's default).
func (f *flight) tooEarly() string {
	at := due(f.run)
	if !at.After(f.Now()) {
		return ""
	}
	deployment := f.deployments[f.run.DeploymentID]
	limited := deployment != nil && deployment.ConcurrencyLimit != nil
	why := ""
	switch {
	case limited || f.run.StateName == "AwaitingConcurrencySlot":
		why = "its deployment has a concurrency limit"
	case f.run.StateName == "AwaitingRetry":
		// It may be one that was given back, whose event has waked this pass.
		why = "it waits for its next try"
	default:
		return ""
	}
	return fmt.Sprintf("due at %s, and not claimed ahead: %s", at.UTC().Format("15:04:05Z"), why)
}

// deploymentGone deals with a run whose deployment does not exist any more, as
// the Python worker does: Prefect 3 cancels it, Prefect 2 leaves it SCHEDULED.
func (f *flight) deploymentGone(ctx context.Context) bool {
	id := f.run.DeploymentID
	if id == "" || f.deployments[id] != nil {
		return false
	}
	// The list left it out; a read by id is the second witness.
	_, err := f.Prefect.Deployment(ctx, id)
	switch {
	case err == nil:
		f.end(Skipped, "its deployment %s appeared during this pass", id)
	case !isNotFound(err):
		f.end(Failed, "read its deployment: %s", f.plain(err))
	case f.as == render.V2:
		f.end(Skipped, "its deployment %s is deleted; cancel or delete the run", id)
	default:
		f.cancel(ctx, fmt.Sprintf("Deployment %s was deleted before this flow run could be submitted.", id))
	}
	return true
}

// formerJobAtWork leaves a run alone while the Job of an earlier attempt is active:
// its pod may start at any moment, and the server would let it run beside another.
// So it may be after an engine was told to end and put its run back, and after a
// retry in the UI. A run's first attempt costs no request here.
func (f *flight) formerJobAtWork(ctx context.Context) bool {
	first := f.run.InfrastructurePID == "" && f.run.RunCount == 0
	if first && slices.Contains([]string{"Scheduled", "Late", "AwaitingConcurrencySlot"}, f.run.StateName) {
		return false
	}
	namespaces := []string{f.job.Namespace}
	if namespace, _, err := placeOf(f.run.InfrastructurePID); err == nil && namespace != f.job.Namespace {
		namespaces = append(namespaces, namespace)
	}
	for _, namespace := range namespaces {
		jobs, err := f.jobsIn(ctx, namespace)
		if err != nil {
			f.end(Failed, "look for Jobs of earlier attempts: %s", f.plain(err))
			return true
		}
		for _, job := range jobs {
			if !job.Complete && !job.Failed {
				f.end(Skipped, "Job %s/%s of an earlier attempt is still active; delete that Job to let the run start anew", namespace, job.Name)
				return true
			}
		}
	}
	return false
}

// jobsIn lists the run's Jobs in a namespace; none where a server that is ready
// refuses that twice: the namespace is gone, or was never Slipway's.
func (f *flight) jobsIn(ctx context.Context, namespace string) ([]kube.JobStatus, error) {
	jobs, err := f.Kube.Jobs(ctx, namespace, labelRun+"="+f.run.ID)
	if err == nil || kube.KindOf(err) != kube.Refused || f.Kube.Ready(ctx) != nil {
		return jobs, err
	}
	if jobs, err = f.Kube.Jobs(ctx, namespace, labelRun+"="+f.run.ID); kube.KindOf(err) == kube.Refused {
		return nil, nil
	}
	return jobs, err
}

// otherCluster refuses a Job that belongs into another cluster than the one that
// Slipway serves: nothing would repair it there.
func otherCluster(job *render.Job) error {
	if kubeconfig, _ := job.ClusterConfig(); kubeconfig == nil {
		return nil
	}
	return &render.Fault{At: "submit", Path: "cluster_config", Message: "it names a block kubernetes-cluster-config, and Slipway creates Jobs in its own cluster only; " +
		"remove the variable from the work pool, the deployment and the run, and let a Slipway of that cluster serve a work pool of its own"}
}

// render makes the run's Job, and holds it to what is known to be refused.
func (f *flight) render(ctx context.Context) (*render.Job, error) {
	run := render.Run{FlowRun: f.run.Raw, Suffix: suffix(f.claim.id)}
	if d := f.deployments[f.run.DeploymentID]; d != nil {
		run.Deployment = d.Raw
	}
	if flow := f.flows[f.run.FlowID]; flow != nil {
		run.Flow = flow.Raw
	}
	job, err := f.renderJob(ctx, run)
	if err != nil {
		return nil, err
	}
	if err := otherCluster(job); err != nil {
		return nil, err
	}
	return job, job.Check()
}

// suffix ends the names of Secrets made for one Job; it follows from the claim,
// so that a repeat writes the same Secrets.
func suffix(transitionID string) string {
	sum := sha256.Sum256([]byte("suffix " + transitionID))
	return hex.EncodeToString(sum[:4])
}

// state encodes a proposal. Unknown keys beside these are refused by the server.
func state(kind, name, message string, details map[string]any) json.RawMessage {
	proposal := map[string]any{"type": kind, "name": name, "state_details": details}
	if details == nil {
		proposal["state_details"] = struct{}{}
	}
	if message != "" {
		proposal["message"] = message
	}
	body, err := json.Marshal(proposal)
	if err != nil {
		panic(err) // strings and times always encode
	}
	return body
}
