// Package submit creates the Job of a claim. A dispatcher does so for a claim that
// it has just made, and a sweep for one whose dispatcher is gone; both follow the
// same rules, so that a claim has one Job whoever makes it.
package submit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/prefect"
	"slipway/render"
)

// Claim is the right to make the Job of one flow run.
type Claim struct {
	ID      string    // transition id
	StateID string    // of the state PENDING that was granted; "": not granted yet
	Due     time.Time // the scheduled time of the state that the claim replaced
	Began   time.Time // this machine's time just before the claim was proposed
}

// Age counts by the clock that runs faster: the monotonic one stands still
// while a machine sleeps, the wall clock can be set back.
func (c Claim) Age(now time.Time) time.Duration {
	return max(now.Sub(c.Began), now.Round(0).Sub(c.Began.Round(0)))
}

// InTime tells whether the owner may still undo the claim: a sweep does not act on it
// yet.
func (c Claim) InTime(o workpool.Options) bool { return o.OrphanGrace-c.Age(o.Now()) >= UnclaimMargin }

// HeldBy tells whether a run is PENDING under the claim. A request that hung, and whose
// repeat was granted long ago, may be granted once more when the run has ended: so the
// state must be the one that was granted (or that a sweep has found), and not only bear
// the claim's id.
func (c Claim) HeldBy(state *prefect.State) bool {
	switch {
	case state == nil || state.Type != "PENDING":
		return false
	case c.StateID != "":
		return state.ID == c.StateID
	}
	return strings.EqualFold(state.Details.TransitionID, c.ID)
}

// Result is what became of a flow run.
type Result struct {
	Outcome  report.Outcome
	Reason   string
	Warnings []string
	Blocked  *Block // what keeps later runs of the pass from being claimed; nil: nothing
}

// Block says that a namespace takes no Job now.
type Block struct {
	Namespace string // "": the whole API server
	Reason    string
	Ends      error // ends the pass; nil: it goes on
}

// Resultf is a result without more than a reason.
func Resultf(outcome report.Outcome, format string, args ...any) Result {
	return Result{Outcome: outcome, Reason: fmt.Sprintf(format, args...)}
}

// Submission is a Job that is to be made.
type Submission struct {
	Session *workpool.Session
	Run     *prefect.FlowRun
	Claim   Claim
	Job     *render.Job
	Place   claim.Place

	// Repair: a sweep makes the Job. The claim's owner may have tried before, and
	// other sweeps may try beside this one, so the claim is never given back.
	Repair bool
}

// undoing ends before a sweep may act on the claim: whatever the owner proposes to undo
// it must not arrive later. A sweep itself has no such end.
func (s *Submission) undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.Repair {
		return ctx, func() {}
	}
	o := s.Session.Options
	return context.WithTimeout(ctx, o.OrphanGrace-s.Claim.Age(o.Now())-UnclaimMargin/2)
}

// submission is the state of one.
type submission struct {
	Submission
	delayed     bool  // a Secret took more than one attempt
	unsure      bool  // an attempt to create the Job may have had its effect
	last        error // of the attempts
	forbidden   int   // refusals by RBAC from an API server that is ready
	unsureInRow int
}

// Submit makes the Job, and reports where it is. The context must outlive the
// claim's deadline.
func Submit(ctx context.Context, s Submission) Result {
	return (&submission{Submission: s}).run(ctx)
}

// maxRepairAttempts keeps one claim from using up the time of a sweep; the next
// sweep goes on.
const maxRepairAttempts = 2

func (s *submission) run(ctx context.Context) Result {
	if failed := s.putSecrets(ctx); failed != nil {
		return *failed
	}
	manifest := s.Job.Manifest(s.Session.Identity(s.Place.Name, s.Claim.ID))
	for attempt := 0; ; attempt++ {
		if s.expired(attempt) {
			return s.outOfTime(ctx)
		}
		if attempt > 0 || s.Repair || s.delayed {
			// The Job of an earlier attempt may have run to its end, and be gone; or a
			// user has cancelled the run meanwhile and retried it.
			if moved := s.stillPending(ctx); moved != nil {
				s.dropSecrets(ctx, moved)
				return *moved
			}
		}
		if done := s.attempt(ctx, attempt, manifest); done != nil {
			return *done
		}
		if s.Session.Options.Sleep(ctx, Pause(attempt, s.last)) != nil {
			return s.outOfTime(ctx)
		}
	}
}

func (s *submission) expired(attempt int) bool {
	if s.Repair {
		return attempt >= maxRepairAttempts
	}
	return s.Claim.Age(s.Session.Options.Now()) > s.Session.Options.Deadline
}

// attempt makes one; nil means that another one is due.
func (s *submission) attempt(ctx context.Context, attempt int, manifest []byte) *Result {
	job, warnings, err := s.Session.Kube.CreateJob(ctx, s.Place.Namespace, s.Place.Name, manifest)
	if kube.IsExists(err) {
		return s.meet(ctx)
	}
	if err == nil {
		return s.created(ctx, job, warnings)
	}
	s.last = err
	return s.failed(ctx, attempt, err)
}

// meet reads the Job that has the name already. It is the claim's if it bears
// that, from an attempt whose answer was lost.
func (s *submission) meet(ctx context.Context) *Result {
	job, err := s.Session.Kube.Job(ctx, s.Place.Namespace, s.Place.Name)
	switch {
	case kube.IsNotFound(err):
		// It was there a moment ago. Made again, it might run twice.
		return s.result(report.Unknown, "its Job %s was deleted while it was being made; a later sweep settles it", s.Place)
	case err != nil:
		s.unsure, s.last = true, err
		return nil
	case !strings.EqualFold(job.Annotations[claim.AnnotationID], s.Claim.ID):
		return s.crashNow(ctx, fmt.Sprintf("Slipway cannot create the Job %s: a Job of that name exists and belongs to something else", s.Place))
	case job.Deleting || job.Finished():
		return s.result(report.Unknown, "its Job %s exists and is over already; a later sweep settles it", s.Place)
	}
	return s.created(ctx, job, nil)
}

// stillPending reads the run before another attempt. nil means that it is PENDING under this claim.
func (s *submission) stillPending(ctx context.Context) *Result {
	run, err := s.Session.Prefect.FlowRun(ctx, s.Run.ID)
	switch {
	case prefect.IsNotFound(err):
		return s.result(report.Skipped, "the flow run was deleted while its Job was being made")
	case err != nil:
		return s.result(report.Unknown, "whether its Job exists is not known, and the flow run could not be read: %s; a later sweep settles it", s.Session.Text(err))
	case s.Claim.HeldBy(run.State):
		return nil
	}
	if !s.unsure {
		return s.result(report.Skipped, "the flow run has moved on to %s meanwhile", run.StateType)
	}
	job, err := s.Session.Kube.Job(ctx, s.Place.Namespace, s.Place.Name)
	switch {
	case err == nil && strings.EqualFold(job.Annotations[claim.AnnotationID], s.Claim.ID):
		return s.created(ctx, job, nil)
	case run.StateType == "SCHEDULED" || run.StateType == "CANCELLING" || run.StateType == "CANCELLED":
		return s.result(report.Skipped, "the flow run has moved on to %s meanwhile", run.StateType)
	}
	return s.result(report.Submitted, "its Job was made by an attempt without an answer: the flow run is %s, and the Job is gone already", run.StateType)
}

// created reports a Job that exists. What fails from here on is a nuisance and
// no more: the run will start.
func (s *submission) created(ctx context.Context, job *kube.Job, warnings []string) *Result {
	r := s.result(report.Submitted, "")
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, "the API server says: "+s.Session.Options.Redactor.Text(w))
	}
	for _, secret := range s.Job.Secrets {
		if !secret.OwnedByJob {
			continue
		}
		if err := s.Session.Kube.OwnSecret(ctx, secret.Namespace, secret.Name, job); err != nil {
			r.Warnings = append(r.Warnings, s.Session.Text(err)+"; it will outlive its Job")
		}
	}
	if !s.Repair && s.Claim.Age(s.Session.Options.Now()) > max(s.Session.Options.OrphanGrace, s.Session.Options.Deadline) {
		// A sweep may be making the Job again, should this one have failed and gone.
		r.Warnings = append(r.Warnings, "the infrastructure pid was not written: it took too long to create the Job; a sweep writes it")
	} else if err := s.Session.Prefect.SetInfrastructurePID(ctx, s.Run.ID, s.Session.PID(s.Place)); err != nil {
		r.Warnings = append(r.Warnings, "the infrastructure pid was not written: "+s.Session.Text(err))
	}
	s.Session.Tell(ctx, s.Run.ID, workpool.LevelInfo, fmt.Sprintf("Slipway %q submitted this flow run as Job %s.", s.Session.Options.WorkerName, s.Place))
	for _, w := range r.Warnings {
		s.Session.Tell(ctx, s.Run.ID, workpool.LevelWarning, w)
	}
	return r
}

func (s *submission) result(outcome report.Outcome, format string, args ...any) *Result {
	r := Resultf(outcome, format, args...)
	return &r
}
