package sweep

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// applied is what came of an action.
type applied struct {
	done  bool
	moved bool // not done, because the run is no more what it was
	text  string
}

func failed(err error) applied { return applied{text: err.Error()} }

// movedOn is the result of a second look that shows another picture.
var movedOn = applied{moved: true, text: "the flow run has moved on meanwhile"}

// apply carries the decision out.
func (a *application) apply(ctx context.Context) applied {
	if !a.decision.Action.Repairs() {
		return applied{text: a.tell(ctx)}
	}
	ctx, cancel := a.ownTime(ctx)
	defer cancel()
	switch a.decision.Action {
	case report.WritePID:
		return a.writePID(ctx)
	case report.CreateJob:
		return a.createJob(ctx)
	case report.PutBack:
		return a.result(ctx, submit.PutBack(ctx, a.submission()), report.Skipped)
	case report.GiveBack:
		return a.propose(ctx, workpool.Change{Type: "SCHEDULED", Name: "AwaitingRetry", Due: a.session().ServerNow()})
	case report.Crash:
		return a.crash(ctx)
	case report.Cancel:
		return a.propose(ctx, workpool.Change{Type: "CANCELLED", Name: "Cancelled"})
	case report.DeleteJob:
		return a.deleteJob(ctx)
	}
	return applied{text: "no such action"}
}

// ownTime lets an action be finished that was begun, within bounds: those of a claim's
// owner, and not much longer than the sweep has.
func (a *application) ownTime(ctx context.Context) (context.Context, context.CancelFunc) {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.session().Options.Deadline+lastAttempt)
	end, bounded := ctx.Deadline()
	if !bounded {
		return own, cancel
	}
	own, cancelBoth := context.WithDeadline(own, end.Add(lastAttempt))
	return own, func() { cancelBoth(); cancel() }
}

func (a *application) session() *workpool.Session { return a.sweep.session }

// unchanged reads the run again: the state that was judged must be its state still,
// and a run that was deleted must not be there.
func (a *application) unchanged(ctx context.Context) (bool, error) {
	now, err := a.session().Prefect.FlowRun(ctx, a.world.RunID)
	switch {
	case prefect.IsNotFound(err):
		return a.run == nil, nil
	case err != nil:
		return false, err
	}
	return a.run != nil && now.StateID == a.run.StateID, nil
}

// propose changes the run's state, and says why in its log.
func (a *application) propose(ctx context.Context, change workpool.Change) applied {
	change.RunID = a.run.ID
	change.Still = func(now *prefect.FlowRun) bool { return now.StateID == a.run.StateID }
	if change.Message == "" {
		change.Message = a.session().Options.Redactor.Text("Slipway: " + a.decision.Reason)
	}
	done, err := a.session().Propose(ctx, change)
	if err != nil {
		return failed(err)
	}
	if done.Accepted && change.Type != "CRASHED" { // a crash has lines of its own
		a.note(ctx, fmt.Sprintf("made it %s", change.Name))
	}
	return applied{done: done.Accepted, moved: !done.Accepted, text: done.Answer}
}

// note writes a repair and its reason into the run's log.
func (a *application) note(ctx context.Context, did string) {
	if a.run != nil {
		a.session().Tell(ctx, a.run.ID, workpool.LevelInfo, fmt.Sprintf("Slipway %s: %s.", did, strings.TrimSuffix(a.decision.Reason, ".")))
	}
}

// submission is the run's claim, as its owner held it. Its age is by the Prefect
// server's clock.
func (a *application) submission() submit.Submission {
	options := a.session().Options
	held := submit.Claim{ID: a.world.ClaimID, StateID: a.run.StateID, Began: options.Now().Add(-a.session().ServerNow().Sub(a.world.ClaimedAt))}
	if state := a.run.State; state != nil && state.Details.ScheduledTime != nil {
		held.Due = *state.Details.ScheduledTime
	}
	return submit.Submission{Session: a.session(), Run: a.run, Claim: held, Place: a.world.Job.Place, Repair: true}
}

// result reads one of a submission.
func (a *application) result(ctx context.Context, r submit.Result, repaired ...report.Outcome) applied {
	out := applied{done: slices.Contains(repaired, r.Outcome), text: strings.TrimSpace(string(r.Outcome) + " " + r.Reason)}
	out.moved = !out.done && r.Outcome == report.Skipped
	if out.done {
		a.note(ctx, "repaired the claim of this flow run")
	}
	return out
}

// createJob makes the Job of a claim that its owner left, at the same place and under
// the same name: if the owner lives and is slow, one of the two meets the other's Job.
func (a *application) createJob(ctx context.Context) applied {
	session, s := a.session(), a.submission()
	job, err := session.Render(ctx, a.run, s.Claim.ID)
	var fault *render.Fault
	switch {
	case errors.As(err, &fault):
		return a.result(ctx, submit.Crash(ctx, s, fault), report.Refused)
	case errors.Is(err, workpool.ErrDeploymentGone):
		return a.result(ctx, submit.Cancel(ctx, s, workpool.DeploymentGone(a.run)), report.Refused)
	case err != nil:
		return failed(err)
	}
	today := claim.Place{Namespace: job.Namespace, Name: claim.JobName(job.NameBase, s.Claim.ID)}
	switch {
	case !s.Place.Known():
		s.Place = today
	case a.trusts(ctx, s.Place.Namespace, job.Namespace):
	case s.Claim.Age(session.Options.Now()) <= untrustedAge:
		return applied{moved: true, text: fmt.Sprintf("it was claimed for namespace %s, and its deployment and work pool name %s now: its Job is made there when the claim is %s old", s.Place.Namespace, today.Namespace, untrustedAge)}
	default:
		s.Place = today
	}
	s.Job = job.In(s.Place.Namespace)
	return a.result(ctx, submit.Submit(ctx, s), report.Submitted, report.Refused)
}

// untrustedAge is when nobody can be making a Job any more where a claim says, and this
// sweep would not: its owner has long ended, and so has every sweep that had read the
// deployment as it was then.
const untrustedAge = 10 * time.Minute

// trusts tells whether a Job may be made in the namespace that a claim names. The claim
// is a text that any client of Prefect can write, so the namespace must be one that
// Jobs of this work pool go to: today's, one of the settings, or one that has Jobs of it.
func (a *application) trusts(ctx context.Context, named, rendered string) bool {
	session := a.session()
	if named == rendered || slices.Contains(session.Options.Namespaces, named) {
		return true
	}
	found := false
	list := kube.JobList{Namespace: named, LabelSelector: claim.LabelPool + "=" + strings.ToLower(session.Pool.ID)}
	err := session.Kube.EachJob(ctx, list, func(*kube.Job) { found = true })
	return err == nil && found
}

// deleteJob removes a Job and its pods, which get their grace period.
func (a *application) deleteJob(ctx context.Context) applied {
	job := a.decision.Job
	if !job.OfRun {
		return applied{text: "it does not bear the flow run's id"}
	}
	if same, err := a.unchanged(ctx); err != nil {
		return failed(err)
	} else if !same {
		return movedOn
	}
	if err := a.session().Kube.DeleteJob(ctx, job.Place.Namespace, job.Place.Name, job.UID); err != nil {
		return failed(err)
	}
	a.note(ctx, "deleted Job "+job.Place.String())
	return applied{done: true, text: "deleted " + job.Place.String()}
}

// writePID says where the run's Job is.
func (a *application) writePID(ctx context.Context) applied {
	if same, err := a.unchanged(ctx); err != nil {
		return failed(err)
	} else if !same {
		return movedOn
	}
	pid := a.session().PID(a.decision.Job.Place)
	if err := a.session().Prefect.SetInfrastructurePID(ctx, a.run.ID, pid); err != nil {
		return failed(err)
	}
	a.note(ctx, "wrote the infrastructure_pid "+pid)
	return applied{done: true, text: "wrote " + pid}
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
	told, err := session.Told(ctx, a.run.ID, prefix)
	if err != nil {
		a.sweep.miss(err, "its log is not added to")
		return ""
	}
	if kube.SameCause(told.Last, session.Options.Redactor.Text(prefix+stuck.Text())) {
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
