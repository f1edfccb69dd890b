package sweep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/dispatch/submit"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// application carries out one decision. The look that it rests on has just been made;
// the run is read once more before each effect, and must be in the same state still.
type application struct {
	sweep    *sweep
	world    World
	run      *prefect.FlowRun // nil: deleted
	decision Decision
}

// lastAttempt is the time that an action may take after the sweep's own is over.
const lastAttempt = 30 * time.Second

// apply returns whether the action was done, and what came of it.
func (a *application) apply(ctx context.Context) (bool, string) {
	if !a.decision.Action.Repairs() {
		return false, a.tell(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.session().Options.Deadline+lastAttempt)
	defer cancel()
	switch a.decision.Action {
	case report.WritePID:
		return a.writePID(ctx)
	case report.CreateJob:
		return a.createJob(ctx)
	case report.PutBack:
		return a.result(ctx, submit.PutBack(ctx, a.session(), a.run, a.claim()), report.Skipped)
	case report.GiveBack:
		return a.propose(ctx, workpool.Change{Type: "SCHEDULED", Name: "AwaitingRetry", Due: a.session().ServerNow()})
	case report.Crash:
		return a.crash(ctx)
	case report.Cancel:
		return a.propose(ctx, workpool.Change{Type: "CANCELLED", Name: "Cancelled"})
	case report.DeleteJob:
		return a.deleteJob(ctx)
	}
	return false, "no such action"
}

func (a *application) session() *workpool.Session { return a.sweep.session }

// unchanged reads the run again: the state that was judged must be its state still,
// and a run that was deleted must not be there.
func (a *application) unchanged(ctx context.Context) bool {
	now, err := a.session().Prefect.FlowRun(ctx, a.world.RunID)
	if a.run == nil {
		return prefect.IsNotFound(err)
	}
	return err == nil && now.StateID == a.run.StateID
}

const movedOn = "the flow run has moved on meanwhile, or cannot be read"

// propose changes the run's state, and says why in its log.
func (a *application) propose(ctx context.Context, change workpool.Change) (bool, string) {
	change.RunID = a.run.ID
	change.Still = func(now *prefect.FlowRun) bool { return now.StateID == a.run.StateID }
	if change.Message == "" {
		change.Message = a.session().Options.Redactor.Text("Slipway: " + a.decision.Reason)
	}
	done, err := a.session().Propose(ctx, change)
	if err != nil {
		return false, err.Error()
	}
	if done.Accepted && change.Type != "CRASHED" { // a crash has lines of its own
		a.note(ctx, fmt.Sprintf("made it %s", change.Name))
	}
	return done.Accepted, done.Answer
}

// note writes a repair and its reason into the run's log.
func (a *application) note(ctx context.Context, did string) {
	if a.run != nil {
		a.session().Tell(ctx, a.run.ID, workpool.LevelInfo, fmt.Sprintf("Slipway %s: %s.", did, strings.TrimSuffix(a.decision.Reason, ".")))
	}
}

// claim is the run's, as its owner held it. Its age is by the Prefect server's clock.
func (a *application) claim() submit.Claim {
	options := a.session().Options
	held := submit.Claim{ID: a.world.ClaimID, StateID: a.run.StateID, Began: options.Now().Add(-a.session().ServerNow().Sub(a.world.ClaimedAt))}
	if state := a.run.State; state != nil && state.Details.ScheduledTime != nil {
		held.Due = *state.Details.ScheduledTime
	}
	return held
}

// result reads one of a submission.
func (a *application) result(ctx context.Context, r submit.Result, done ...report.Outcome) (bool, string) {
	for _, outcome := range done {
		if r.Outcome == outcome {
			a.note(ctx, "repaired the claim of this flow run")
			return true, strings.TrimSpace(string(r.Outcome) + " " + r.Reason)
		}
	}
	return false, strings.TrimSpace(string(r.Outcome) + " " + r.Reason)
}

// createJob makes the Job of a claim that its owner left, at the same place and under
// the same name: if the owner lives and is slow, one of the two meets the other's Job.
func (a *application) createJob(ctx context.Context) (bool, string) {
	session, held := a.session(), a.claim()
	job, err := session.Render(ctx, a.run, held.ID)
	var fault *render.Fault
	switch {
	case errors.As(err, &fault):
		return a.result(ctx, submit.Crash(ctx, session, a.run, held, "Slipway cannot render the Job of this flow run: "+fault.Error()), report.Refused)
	case errors.Is(err, workpool.ErrDeploymentGone):
		why := fmt.Sprintf("Deployment %s was deleted before this flow run could be submitted.", a.run.DeploymentID)
		return a.result(ctx, submit.Cancel(ctx, session, a.run, held, why), report.Refused)
	case err != nil:
		return false, err.Error()
	}
	place := a.world.Job.Place
	if !place.Known() {
		place = claim.Place{Namespace: job.Namespace, Name: claim.JobName(job.NameBase, held.ID)}
	}
	limit, given := session.Options.StartLimits[submit.NotCreated]
	if !given {
		limit = DefaultNotCreatedLimit
	}
	r := submit.Submit(ctx, submit.Submission{
		Session: session, Run: a.run, Claim: held, Job: job.In(place.Namespace), Place: place,
		Repair: true, Final: held.Age(session.Options.Now()) > limit,
	})
	return a.result(ctx, r, report.Submitted, report.Refused)
}

// DefaultNotCreatedLimit is how long a Job may fail to be created, by answers that
// leave open whether it was, until its run is CRASHED.
const DefaultNotCreatedLimit = 15 * time.Minute

// deleteJob removes a Job and its pods, which get their grace period.
func (a *application) deleteJob(ctx context.Context) (bool, string) {
	if !a.unchanged(ctx) {
		return false, movedOn
	}
	job := a.decision.Job
	if err := a.session().Kube.DeleteJob(ctx, job.Place.Namespace, job.Place.Name, job.UID); err != nil {
		return false, err.Error()
	}
	a.note(ctx, "deleted Job "+job.Place.String())
	return true, "deleted " + job.Place.String()
}

// writePID says where the run's Job is.
func (a *application) writePID(ctx context.Context) (bool, string) {
	if !a.unchanged(ctx) {
		return false, movedOn
	}
	pid := a.session().PID(a.decision.Job.Place)
	if err := a.session().Prefect.SetInfrastructurePID(ctx, a.run.ID, pid); err != nil {
		return false, err.Error()
	}
	a.note(ctx, "wrote the infrastructure_pid "+pid)
	return true, "wrote " + pid
}

// tell writes what keeps a pod from starting into its run's log, unless the last that
// was written of it says the same.
func (a *application) tell(ctx context.Context) string {
	stuck := a.world.Stuck
	if a.decision.Action != report.Tell || stuck == nil {
		return ""
	}
	session, job := a.session(), a.world.Job
	about := "Job " + job.Place.Name
	pods, err := session.Kube.Pods(ctx, job.Place.Namespace, []string{job.Place.Name})
	if err != nil {
		a.sweep.miss(err, "what keeps its pod from starting is not told")
		return ""
	}
	pod, there := newestPod(pods)
	if there {
		about = "Pod " + pod.Name
	}
	prefix := about + " does not start: "
	told, err := session.Tells(ctx, a.run.ID, prefix, prefix+stuck.Text(), kube.SameCause)
	if err != nil {
		a.sweep.miss(err, "its log is not added to")
		return ""
	}
	if told {
		return "told before"
	}
	session.TellAs(ctx, observerLogger, a.run.ID, levelOf(stuck), prefix+stuck.Text())
	if there {
		a.sweep.noteEvents(ctx, []kube.PodStatus{pod})
	}
	return "told in its log"
}

// observerLogger is the one under which the observer of prefect-kubernetes 0.8.0 tells
// of pods.
const observerLogger = "prefect.flow_runs.observer"

// levelOf is the observer's level for a diagnosis (diagnostics.py).
func levelOf(d *kube.Diagnosis) int {
	switch d.Category {
	case kube.ImagePullError, kube.CrashLoop, kube.OOMKilled:
		return workpool.LevelError
	}
	return workpool.LevelWarning
}
