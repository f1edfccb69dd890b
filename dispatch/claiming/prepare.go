package claiming

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/dispatch/submit"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// prepare does everything that has no effect, so that a claim is followed by its
// Job without delay. A result ends the run's way.
func (p *pass) prepare(ctx context.Context, ready *prepared) *submit.Result {
	run := &ready.run
	deployment, err := p.session.Deployment(ctx, run)
	if errors.Is(err, workpool.ErrDeploymentGone) {
		return p.deploymentGone(ctx, run)
	}
	if err != nil {
		return result(report.Failed, "read its deployment: %s", p.session.Text(err))
	}
	ready.limited = run.StateName == "AwaitingConcurrencySlot" || deployment != nil && deployment.ConcurrencyLimit != nil
	if why := p.tooEarly(ready); why != "" {
		return result(report.Skipped, "%s", why)
	}
	id, err := claim.NewID(p.session.Cluster, run.ID)
	if err != nil {
		return result(report.Failed, "%v", err)
	}
	ready.claim = submit.Claim{ID: id, Due: due(run)}
	if failed := p.render(ctx, ready); failed != nil {
		return failed
	}
	if blocked := p.blocked(ready); blocked != nil || ready.job == nil {
		return blocked
	}
	return p.formerJob(ctx, ready)
}

// render makes the Job, or keeps the user's fault, for which the run is CRASHED
// once it is claimed.
func (p *pass) render(ctx context.Context, ready *prepared) *submit.Result {
	job, err := p.session.Render(ctx, &ready.run, ready.claim.ID)
	var fault *render.Fault
	switch {
	case errors.As(err, &fault):
		ready.fault = fault
	case errors.Is(err, workpool.ErrDeploymentGone):
		return p.deploymentGone(ctx, &ready.run)
	case err != nil:
		return result(report.Failed, "read what its Job refers to: %s", p.session.Text(err))
	default:
		ready.job, ready.warned = job, job.Warnings()
		ready.place = claim.Place{Namespace: job.Namespace, Name: claim.JobName(job.NameBase, ready.claim.ID)}
	}
	return nil
}

// tooEarly explains why a run is not claimed before it is due; "" if it may be.
// An early claim holds the slot of a deployment's concurrency limit, and its
// lease ends 300 s after the claim (Prefect 3.8.8's default).
func (p *pass) tooEarly(ready *prepared) string {
	at := due(&ready.run)
	if !at.After(p.session.ServerNow()) {
		return ""
	}
	why := ""
	switch {
	case ready.limited:
		why = "its deployment has a concurrency limit"
	case ready.run.StateName == "AwaitingRetry":
		// It may be one that was given back, whose event has caused this pass.
		why = "it waits for its next try"
	default:
		return ""
	}
	return fmt.Sprintf("due at %s, and not claimed ahead: %s", at.UTC().Format("15:04:05Z"), why)
}

// deploymentGone deals with a run whose deployment does not exist any more, as
// the Python worker does: Prefect 3 cancels it, Prefect 2 leaves it SCHEDULED. It is
// not claimed: a server refuses a claim whose deployment is gone.
func (p *pass) deploymentGone(ctx context.Context, run *prefect.FlowRun) *submit.Result {
	if p.session.As == render.V2 {
		return result(report.Skipped, "its deployment %s is deleted; cancel or delete the run", run.DeploymentID)
	}
	why := workpool.DeploymentGone(run)
	done, err := p.session.Propose(ctx, workpool.Change{RunID: run.ID, Type: "CANCELLED", Name: "Cancelled", Message: why,
		Still: func(now *prefect.FlowRun) bool { return now.StateType == "SCHEDULED" }})
	switch {
	case err != nil:
		return result(report.Failed, "%s It could not be cancelled: %s", why, p.session.Text(err))
	case !done.Accepted:
		return result(report.Skipped, "%s", done.Answer)
	}
	return result(report.Refused, "%s", why)
}

// formerJob leaves a run alone while the Job of an earlier attempt is active: its pod
// may start at any moment, and the server would let it run beside another. So it may
// be after an engine was told to end and put its run back, and after a retry in the
// UI. A run's first attempt costs no request here.
func (p *pass) formerJob(ctx context.Context, ready *prepared) *submit.Result {
	run := &ready.run
	if isFirst(run) {
		return nil
	}
	namespaces, err := p.formerNamespaces(ctx, ready)
	if err != nil {
		return result(report.Failed, "read the run's earlier claims: %s", p.session.Text(err))
	}
	for _, namespace := range namespaces {
		active, err := p.activeJob(ctx, namespace, run.ID)
		if err != nil {
			return result(report.Failed, "look for Jobs of earlier attempts: %s", p.session.Text(err))
		}
		if active != "" {
			return result(report.Skipped, "Job %s/%s of an earlier attempt is still active; delete that Job to let the run start anew", namespace, active)
		}
	}
	return nil
}

// isFirst tells whether this is a run's first attempt.
func isFirst(run *prefect.FlowRun) bool {
	return run.InfrastructurePID == "" && run.RunCount == 0 && slices.Contains([]string{"Scheduled", "Late", "AwaitingConcurrencySlot"}, run.StateName)
}

// formerNamespaces are those that Jobs of the run may be in: today's, that of the pid,
// and those that its earlier claims name.
func (p *pass) formerNamespaces(ctx context.Context, ready *prepared) ([]string, error) {
	run := &ready.run
	var states []prefect.State
	if run.InfrastructurePID != "" || run.RunCount > 0 || run.StateName == "AwaitingRetry" {
		var err error
		if states, err = p.session.Prefect.FlowRunStates(ctx, run.ID); err != nil {
			return nil, err
		}
	}
	places := []claim.Place{ready.place, claim.ParsePID(run.InfrastructurePID)}
	for _, state := range states {
		places = append(places, claim.PlaceOf(state.Message, state.Details.TransitionID))
	}
	var namespaces []string
	for _, place := range places {
		if place.Known() && !slices.Contains(namespaces, place.Namespace) {
			namespaces = append(namespaces, place.Namespace)
		}
	}
	return namespaces, nil
}

// activeJob names an unfinished Job of a run in a namespace; "" if there is none, or if
// a server that is ready refuses the list twice: the namespace is gone, or was never
// Slipway's.
func (p *pass) activeJob(ctx context.Context, namespace, runID string) (string, error) {
	name := ""
	list := kube.JobList{Namespace: namespace, LabelSelector: claim.LabelFlowRun + "=" + runID}
	err := p.session.ConfirmRefused(ctx, func() error {
		return p.session.Kube.EachJob(ctx, list, func(job *kube.Job) {
			if !job.Finished() {
				name = job.Name
			}
		})
	})
	if kube.IsRefused(err) {
		return "", nil
	}
	return name, err
}

func due(run *prefect.FlowRun) time.Time {
	if run.NextScheduledStartTime == nil {
		return time.Time{}
	}
	return *run.NextScheduledStartTime
}
