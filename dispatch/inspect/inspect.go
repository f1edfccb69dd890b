// Package inspect looks at both servers and changes nothing: it renders Jobs, compares
// them with a Python worker's, checks what a pass needs, and explains what a run waits
// for.
package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"slipway/dispatch/claim"
	"slipway/dispatch/workpool"
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

// Inspection is a Job that nobody submits. It is shown as it is: what leaves the
// process of its user goes through the process's redactor first.
type Inspection struct {
	Job      *render.Job
	Manifest []byte           // JSON, with the name if the run is claimed in this cluster
	Origins  []render.Origin  // where each value comes from
	Findings []render.Finding // what is likely not meant
	Run      *prefect.FlowRun // nil for a made-up one
}

// Inspect renders a Job without any effect on either server. Errors are
// *workpool.Error, or *render.Fault where the template or the variables make no Job;
// a fault may quote what a block holds, and is to be redacted before it is shown.
func Inspect(ctx context.Context, servers *workpool.Servers, s Subject) (*Inspection, error) {
	i := &inspector{servers: servers}
	if err := i.read(ctx, s); err != nil {
		return nil, err
	}
	session, err := servers.Open(ctx, i.pool)
	if err != nil {
		return nil, err
	}
	job, err := session.RenderDocuments(ctx, i.documents)
	var fault *render.Fault
	if errors.As(err, &fault) {
		return nil, fault
	}
	if err != nil {
		return nil, workpool.PrefectError(ctx, "read what the Job refers to", err)
	}
	found := &Inspection{Job: job, Run: i.run}
	if found.Origins, err = session.Template.Explain(i.documents, session.Documents()); err != nil {
		return nil, err
	}
	if found.Findings, err = session.Template.Lint(i.documents, session.Documents()); err != nil {
		return nil, err
	}
	found.Manifest = job.Manifest(identity(ctx, session, job, i.run))
	return found, nil
}

// inspector gathers what a rendering is made of.
type inspector struct {
	servers   *workpool.Servers
	pool      string // the work pool's name
	run       *prefect.FlowRun
	documents render.Run
}

func (i *inspector) client() *prefect.Client { return i.servers.Options.Prefect }

// read reads the run and what belongs to it, and settles the work pool.
func (i *inspector) read(ctx context.Context, s Subject) error {
	i.pool, i.documents.Suffix = s.WorkPool, "00000000"
	flowID := ""
	if s.FlowRun != "" {
		run, err := i.client().FlowRun(ctx, s.FlowRun)
		if err != nil {
			return workpool.NotFoundOr(ctx, err, "flow run "+s.FlowRun)
		}
		i.run, flowID = run, run.FlowID
		i.documents.FlowRun, i.documents.Suffix = run.Raw, claim.Suffix(run.TransitionID())
		i.servePool(run.WorkPoolName)
		if s.Deployment == "" {
			s.Deployment = run.DeploymentID
		}
	}
	if s.Deployment != "" {
		deployment, err := i.deployment(ctx, s.Deployment)
		if err != nil {
			return workpool.NotFoundOr(ctx, err, "deployment "+s.Deployment)
		}
		i.documents.Deployment = deployment.Raw
		if i.run == nil {
			i.servePool(deployment.WorkPoolName)
			flowID, i.documents.FlowRun = deployment.FlowID, madeUp(deployment)
		}
	}
	if i.pool == "" {
		return &workpool.Error{Kind: workpool.Invalid, Message: "the flow run belongs to no work pool: name one (--pool)"}
	}
	flows, err := i.client().Flows(ctx, []string{flowID})
	if err != nil {
		return workpool.PrefectError(ctx, "read flow "+flowID, err)
	}
	if len(flows) == 1 {
		i.documents.Flow = flows[0].Raw
	}
	return nil
}

func (i *inspector) servePool(name string) {
	if i.pool == "" {
		i.pool = name
	}
}

// deployment reads one by id or by "flow name/deployment name".
func (i *inspector) deployment(ctx context.Context, name string) (*prefect.Deployment, error) {
	if flow, deployment, ok := strings.Cut(name, "/"); ok {
		return i.client().DeploymentByName(ctx, flow, deployment)
	}
	return i.client().Deployment(ctx, name)
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

// identity is that of the Job of the run's current claim, if it has one of this
// cluster.
func identity(ctx context.Context, session *workpool.Session, job *render.Job, run *prefect.FlowRun) render.Identity {
	if run == nil || run.TransitionID() == "" || session.NameCluster(ctx) != nil || !claim.Verify(session.Cluster, run.ID, run.TransitionID()) {
		return render.Identity{}
	}
	return session.Identity(claim.JobName(job.NameBase, run.TransitionID()), run.TransitionID())
}

// Verdict is what the API server says of a Job that it was asked to try only.
type Verdict struct {
	Defaulted []byte   // JSON of the Job as it would be stored
	Warnings  []string // unknown fields, which it would prune, among others
	Refusal   string   // why it would not take the Job; "" if it would
}

// Try asks the API server for its verdict, by a dry run. What it says is redacted.
func Try(ctx context.Context, servers *workpool.Servers, i *Inspection) (*Verdict, error) {
	redactor := servers.Options.Redactor
	// Without the name: the Job of a claimed run may exist already.
	defaulted, warnings, err := servers.Options.Kube.TryJob(ctx, i.Job.Namespace, i.Job.Manifest(render.Identity{}))
	warnings = redactor.Texts(warnings)
	if err == nil {
		return &Verdict{Defaulted: defaulted, Warnings: warnings}, nil
	}
	if kube.IsRefused(err) {
		return &Verdict{Warnings: warnings, Refusal: redactor.Text(err.Error())}, nil
	}
	return nil, &workpool.Error{Kind: workpool.Unavailable, Message: "the Kubernetes API server cannot be asked for its verdict", Err: err}
}

// LiveJob is the Job in the cluster that a flow run's infrastructure_pid names, as JSON.
func LiveJob(ctx context.Context, servers *workpool.Servers, run *prefect.FlowRun) ([]byte, error) {
	place := claim.ParsePID(run.InfrastructurePID)
	if !place.Known() {
		return nil, &workpool.Error{Kind: workpool.Invalid, Message: fmt.Sprintf("flow run %s: its infrastructure_pid %q names no Job", run.ID, run.InfrastructurePID)}
	}
	raw, err := servers.Options.Kube.JobJSON(ctx, place.Namespace, place.Name)
	if kube.IsNotFound(err) {
		return nil, &workpool.Error{Kind: workpool.NotFound, Message: fmt.Sprintf("the Job %s of flow run %s is not in this cluster any more", place, run.ID), Err: err}
	}
	if err != nil {
		return nil, &workpool.Error{Kind: workpool.Unavailable, Message: "read the Job", Err: err}
	}
	return raw, nil
}

// JobOf is the manifest of a flow run's Job, as JSON and without secrets. Errors
// are *workpool.Error, also where no Job can be made.
func JobOf(ctx context.Context, servers *workpool.Servers, flowRunID string) ([]byte, error) {
	i, err := Inspect(ctx, servers, Subject{FlowRun: flowRunID})
	var fault *render.Fault
	if errors.As(err, &fault) {
		return nil, &workpool.Error{Kind: workpool.Invalid, Message: "no Job can be made of flow run " + flowRunID, Err: fault}
	}
	if err != nil {
		return nil, err
	}
	return servers.Options.Redactor.JSON(i.Manifest), nil
}
