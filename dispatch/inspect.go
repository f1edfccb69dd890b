package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// Subject names the flow run whose Job is looked at, or the deployment of one that
// might be.
type Subject struct {
	WorkPool   string // "": that of the flow run or deployment
	Deployment string // id, or flow name/deployment name; "" with FlowRun
	FlowRun    string // id; "": a made-up run of the deployment
}

// Inspection is a Job that nobody submits.
type Inspection struct {
	Job      *render.Job
	Manifest []byte           // JSON, with the name if the run is claimed in this cluster
	Origins  []render.Origin  // where each value comes from
	Findings []render.Finding // what is likely not meant
	Run      *prefect.FlowRun // nil for a made-up one

	Redact func(string) string // hides secrets in what is shown of it
}

// Inspect renders a Job without any effect on either server. Errors are *Error,
// or *render.Fault where the template or the variables make no Job.
func (d *Dispatcher) Inspect(ctx context.Context, s Subject) (*Inspection, error) {
	p := d.newPass(s.WorkPool, Request{})
	run, documents, err := p.subject(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{p.meetServer, p.readPool} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	job, err := p.renderJob(ctx, documents)
	var fault *render.Fault
	if err != nil && !errors.As(err, &fault) {
		return nil, prefectError(ctx, "read what the Job refers to", err)
	}
	if err != nil {
		return nil, err
	}
	i := &Inspection{Job: job, Run: run, Redact: p.redact}
	if i.Origins, err = p.template.Explain(documents, p.documents.view()); err != nil {
		return nil, err
	}
	if i.Findings, err = p.template.Lint(documents, p.documents.view()); err != nil {
		return nil, err
	}
	i.Manifest = job.Manifest(p.identity(ctx, job, run))
	return i, nil
}

// subject reads the run and what belongs to it, and settles the work pool.
func (p *pass) subject(ctx context.Context, s Subject) (*prefect.FlowRun, render.Run, error) {
	var run *prefect.FlowRun
	var err error
	if s.FlowRun != "" {
		if run, err = p.Prefect.FlowRun(ctx, s.FlowRun); err != nil {
			return nil, render.Run{}, notFoundOr(ctx, err, "flow run "+s.FlowRun)
		}
		if s.Deployment == "" {
			s.Deployment = run.DeploymentID
		}
	}
	documents := render.Run{Suffix: "00000000"}
	pool, flowID := "", ""
	if run != nil {
		documents.FlowRun, documents.Suffix = run.Raw, suffix(transitionOf(run))
		pool, flowID = run.WorkPoolName, run.FlowID
	}
	if s.Deployment != "" {
		deployment, err := p.deployment(ctx, s.Deployment)
		if err != nil {
			return nil, documents, notFoundOr(ctx, err, "deployment "+s.Deployment)
		}
		documents.Deployment = deployment.Raw
		if run == nil {
			pool, flowID = deployment.WorkPoolName, deployment.FlowID
			documents.FlowRun = madeUp(deployment)
		}
	}
	flows, err := p.Prefect.Flows(ctx, []string{flowID})
	if err != nil {
		return nil, documents, prefectError(ctx, "read flow "+flowID, err)
	}
	if len(flows) == 1 {
		documents.Flow = flows[0].Raw
	}
	if p.report.Pool == "" {
		p.report.Pool = pool
	}
	if p.report.Pool == "" {
		return nil, documents, &Error{Kind: Invalid, Message: "the flow run belongs to no work pool: name one (--pool)"}
	}
	return run, documents, nil
}

func notFoundOr(ctx context.Context, err error, what string) error {
	if isNotFound(err) {
		return &Error{Kind: NotFound, Message: what + " does not exist", Err: err}
	}
	return prefectError(ctx, "read "+what, err)
}

// deployment reads one by id or by "flow name/deployment name".
func (p *pass) deployment(ctx context.Context, name string) (*prefect.Deployment, error) {
	if flow, deployment, ok := strings.Cut(name, "/"); ok {
		return p.Prefect.DeploymentByName(ctx, flow, deployment)
	}
	return p.Prefect.Deployment(ctx, name)
}

// madeUp is a run as the server would make one of a deployment.
func madeUp(d *prefect.Deployment) json.RawMessage {
	body, err := json.Marshal(map[string]any{
		"id": uuid.Nil.String(), "name": "example", "flow_id": d.FlowID, "deployment_id": d.ID, "job_variables": map[string]any{},
	})
	if err != nil {
		panic(err) // strings always encode
	}
	return body
}

func transitionOf(run *prefect.FlowRun) string {
	if run.State == nil {
		return ""
	}
	return run.State.Details.TransitionID
}

// identity is that of the Job of the run's current claim, if it has one of this
// cluster.
func (p *pass) identity(ctx context.Context, job *render.Job, run *prefect.FlowRun) render.Identity {
	if run == nil || transitionOf(run) == "" || p.meetCluster(ctx) != nil || !IsClaim(p.cluster, run.ID, transitionOf(run)) {
		return render.Identity{}
	}
	return p.named(job, transitionOf(run))
}

// named is the identity that a claim gives its Job.
func (p *pass) named(job *render.Job, transitionID string) render.Identity {
	return render.Identity{Name: jobName(job.NameBase, transitionID), Annotations: map[string]string{
		annotationTransition: transitionID,
		annotationCluster:    p.cluster,
	}}
}

// Verdict is what the API server says of a Job that it was asked to try only.
type Verdict struct {
	Defaulted []byte   // JSON of the Job as it would be stored
	Warnings  []string // unknown fields, which it would prune, among others
	Refusal   string   // why it would not take the Job; "" if it would
}

// Try asks the API server for its verdict, by a dry run.
func (d *Dispatcher) Try(ctx context.Context, i *Inspection) (*Verdict, error) {
	// Without the name: the Job of a claimed run may exist already.
	defaulted, warnings, err := d.Kube.TryJob(ctx, i.Job.Namespace, i.Job.Manifest(render.Identity{}))
	if err == nil {
		return &Verdict{Defaulted: defaulted, Warnings: warnings}, nil
	}
	if kube.KindOf(err) == kube.Refused {
		return &Verdict{Warnings: warnings, Refusal: err.Error()}, nil
	}
	return nil, &Error{Kind: Unavailable, Message: "the Kubernetes API server cannot be asked for its verdict: " + err.Error(), Err: err}
}

// LiveJob is the Job in the cluster that a flow run's infrastructure_pid names.
func (d *Dispatcher) LiveJob(ctx context.Context, run *prefect.FlowRun) ([]byte, error) {
	namespace, name, err := placeOf(run.InfrastructurePID)
	if err != nil {
		return nil, &Error{Kind: Invalid, Message: fmt.Sprintf("flow run %s: %v", run.ID, err)}
	}
	raw, err := d.Kube.JobJSON(ctx, namespace, name)
	if kube.KindOf(err) == kube.NotFound && err != nil {
		return nil, &Error{Kind: NotFound, Message: fmt.Sprintf("the Job %s/%s of flow run %s is not in this cluster any more", namespace, name, run.ID), Err: err}
	}
	if err != nil {
		return nil, &Error{Kind: Unavailable, Message: "read the Job: " + err.Error(), Err: err}
	}
	return raw, nil
}

// placeOf reads an infrastructure_pid: namespace:job of Prefect 3, and
// cluster:namespace:job of Prefect 2.
func placeOf(pid string) (namespace, name string, err error) {
	parts := strings.Split(pid, ":")
	switch len(parts) {
	case 2:
		return parts[0], parts[1], nil
	case 3:
		return parts[1], parts[2], nil
	}
	return "", "", fmt.Errorf("its infrastructure_pid %q names no Job", pid)
}

// JobOf is the manifest of a flow run's Job, as JSON and without secrets. Errors
// are *Error, also where no Job can be made.
func (d *Dispatcher) JobOf(ctx context.Context, flowRunID string) ([]byte, error) {
	i, err := d.Inspect(ctx, Subject{FlowRun: flowRunID})
	var fault *render.Fault
	if errors.As(err, &fault) {
		return nil, &Error{Kind: Invalid, Message: "no Job can be made of flow run " + flowRunID + ": " + fault.Error(), Err: err}
	}
	if err != nil {
		return nil, err
	}
	return []byte(i.Redact(string(i.Manifest))), nil
}
