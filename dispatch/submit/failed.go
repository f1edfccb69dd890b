package submit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"slipway/dispatch/report"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/prefect"
)

const (
	// maxAttempts is how many refusals that may pass by themselves a claim meets before it
	// is given back.
	maxAttempts = 3
	// maxForbiddenRetries is how many refusals by RBAC are put down to a server that
	// does not even say whether it is ready; with pauses, twelve seconds.
	maxForbiddenRetries = 5
	// maxUnsure is how many attempts of unknown effect in a row block a namespace.
	maxUnsure = 3
)

// failed ends the submission if another attempt would be useless or harmful; nil
// if another one is due.
func (s *submission) failed(ctx context.Context, attempt int, err error) *Result {
	var e *kube.Error
	errors.As(err, &e)
	switch {
	case kube.IsRefused(err):
		return s.refused(ctx, attempt, e)
	case kube.IsNotDone(err):
		return s.notDone(ctx, attempt, e)
	}
	s.unsure = true
	s.unsureInRow++
	return nil
}

// refused: the same request never succeeds.
func (s *submission) refused(ctx context.Context, attempt int, e *kube.Error) *Result {
	if s.unsure {
		return s.result(report.Unknown, "%s, after an attempt whose effect is not known; a later sweep settles it", s.Session.Text(e))
	}
	if kube.IsForbidden(e) && !s.confirmForbidden(ctx, attempt) {
		return nil
	}
	r := s.crash(ctx, "Slipway cannot create the Job of this flow run: "+s.Session.Text(e)+hint(e))
	s.dropSecrets(ctx, r)
	return r
}

// confirmForbidden tells whether a refusal by RBAC is the server's last word: the
// second one of a server that is ready. One that is starting refuses everybody until
// it has read its roles (seen on kube-apiserver 1.36.3).
func (s *submission) confirmForbidden(ctx context.Context, attempt int) bool {
	err := s.Session.Kube.Ready(ctx)
	if err == nil || kube.IsRefused(err) && attempt >= maxForbiddenRetries {
		s.forbidden++
	}
	return s.forbidden > 1
}

// notDone: it had no effect, and may succeed later.
func (s *submission) notDone(ctx context.Context, attempt int, e *kube.Error) *Result {
	if s.Repair {
		return s.notYet(ctx, s.Session.Text(e))
	}
	quota := e.Status == http.StatusForbidden
	if s.unsure || !quota && attempt+1 < maxAttempts {
		return nil
	}
	r := s.unclaim(ctx, s.Session.Text(e), e.RetryAfter)
	r.Blocked = s.block(e, quota)
	return r
}

// block keeps the pass from claiming more runs that would meet the same.
func (s *submission) block(e *kube.Error, quota bool) *Block {
	b := &Block{Reason: "not claimed, because of what an earlier run met: " + s.Session.Text(e)}
	if quota {
		b.Namespace = s.Place.Namespace
		return b
	}
	kind := workpool.Unavailable
	if e.Status == http.StatusUnauthorized {
		kind = workpool.Denied
	}
	b.Ends = &workpool.Error{Kind: kind, Message: "create Jobs", Err: e}
	return b
}

// outOfTime: past the deadline a sweep may take over, so this one stops.
func (s *submission) outOfTime(ctx context.Context) Result {
	if !s.unsure && !s.Repair {
		return *s.unclaim(ctx, fmt.Sprintf("no Job could be created within %s (SLIPWAY_DEADLINE)", s.Session.Options.Deadline), 0)
	}
	cause := "its answer was lost"
	if s.last != nil {
		cause = s.Session.Text(s.last)
	}
	if s.Repair {
		return *s.notYet(ctx, cause)
	}
	s.tellOnce(ctx, cause)
	r := Resultf(report.Unknown, "whether its Job %s exists could not be learned: %s; a later sweep settles it", s.Place, cause)
	if s.unsureInRow >= maxUnsure {
		r.Blocked = &Block{Namespace: s.Place.Namespace, Reason: "not claimed, because of what an earlier run met: " + cause}
	}
	return r
}

// tellOnce writes into the run's log why there is no Job, unless the last line about
// it says the same. It returns for how long the log has said so: a sweep counts from the
// first sweep that met this, not from its owner's attempts, since when there may have
// been no server to ask.
func (s *submission) tellOnce(ctx context.Context, cause string) time.Duration {
	still := ""
	if s.Repair {
		still = "still "
	}
	prefix := fmt.Sprintf("Job %s is %snot created: ", s.Place, still)
	told := s.Session.TellOnce(ctx, s.Run.ID, prefix, prefix+notCreated+": "+cause)
	if told.First.IsZero() {
		return 0
	}
	return s.Session.ServerNow().Sub(told.First)
}

// notYet leaves a repair to the next sweep, unless the run's log has told of this cause
// for longer than its limit, and the Job is not there, or may not be looked at.
func (s *submission) notYet(ctx context.Context, cause string) *Result {
	told := s.tellOnce(ctx, cause)
	_, err := s.Session.Kube.Job(ctx, s.Place.Namespace, s.Place.Name)
	if limit, given := s.limit(cause); given && told > limit && (kube.IsNotFound(err) || kube.IsRefused(err)) {
		return s.crashNow(ctx, fmt.Sprintf("Slipway could not create the Job %s of this flow run for %s: %s", s.Place, told.Round(time.Second), cause))
	}
	return s.result(report.Unknown, "whether its Job %s exists, or when it can be made, is not known: %s; the next sweep tries again", s.Place, cause)
}

// notCreated is the diagnosis of a Job whose creation is answered by errors, and
// defaultLimit how long that may last where the settings say nothing.
const (
	notCreated   = "JobNotCreated"
	defaultLimit = 15 * time.Minute
)

// limit is that of a cause, in the settings' SLIPWAY_START_LIMITS. A quota may be used up
// for as long as it likes, unless they name it.
func (s *submission) limit(cause string) (time.Duration, bool) {
	limits := s.Session.Options.StartLimits
	if strings.Contains(cause, "quota") {
		limit, given := limits[string(kube.QuotaExceeded)]
		return limit, given
	}
	if limit, given := limits[notCreated]; given {
		return limit, true
	}
	return defaultLimit, true
}

// UnclaimMargin is the time that giving back takes at most, clocks considered.
const UnclaimMargin = 5 * time.Second

// The least and the most time until a run whose claim was given back is due again.
const (
	backOff    = 30 * time.Second
	maxBackOff = 5 * time.Minute
)

// alone tells whether nobody else can be making the Job. From its grace on a sweep
// does: to give the claim back then would be to let two Jobs run, and the Secrets are
// that sweep's.
func (s *submission) alone() bool { return !s.Repair && s.Claim.InTime(s.Session.Options) }

// unclaim gives the run back to the pool. Only the owner does so, and only when
// it is certain that no Job was made: a late one would run beside the next claim's.
func (s *submission) unclaim(ctx context.Context, why string, wait time.Duration) *Result {
	if !s.alone() {
		return s.result(report.Unknown, "%s; it stays PENDING, and a sweep tries again", why)
	}
	due := s.Session.ServerNow().Add(min(max(wait, backOff), maxBackOff))
	if s.Claim.Due.After(due) {
		due = s.Claim.Due
	}
	r := s.settle(ctx, report.Unclaimed, why, workpool.Change{Type: "SCHEDULED", Name: "AwaitingRetry", Due: due})
	s.dropSecrets(ctx, r)
	return r
}

// crash ends the run for good, with the reason where its owner looks for it. From the
// orphan grace on that is the sweeps' affair, for which the Job must provably not be
// there.
func (s *submission) crash(ctx context.Context, why string) *Result {
	switch {
	case s.alone():
		return s.crashNow(ctx, why)
	case !s.Repair:
		return s.result(report.Unknown, "%s; it stays PENDING, and a sweep tries again", why)
	}
	_, err := s.Session.Kube.Job(ctx, s.Place.Namespace, s.Place.Name)
	switch {
	case kube.IsRefused(err):
		return s.notYet(ctx, why)
	case !kube.IsNotFound(err):
		return s.result(report.Unknown, "%s; its Job exists all the same, or cannot be read; a later sweep settles it", why)
	}
	return s.crashNow(ctx, why)
}

func (s *submission) crashNow(ctx context.Context, why string) *Result {
	r := s.settle(ctx, report.Refused, why, workpool.Change{Type: "CRASHED", Name: "Crashed"})
	if r.Outcome == report.Refused {
		s.Session.Tell(ctx, s.Run.ID, workpool.LevelError, why)
	}
	return r
}

// Crash makes a run CRASHED that is PENDING under a claim and of which no Job can be
// rendered, and writes the fault into its log. Of the submission it needs Session, Run,
// Claim and Repair.
func Crash(ctx context.Context, s Submission, fault error) Result {
	return *(&submission{Submission: s}).crashNow(ctx, "Slipway cannot render the Job of this flow run: "+fault.Error())
}

// Cancel likewise ends a run that nobody can start.
func Cancel(ctx context.Context, s Submission, why string) Result {
	return *(&submission{Submission: s}).settle(ctx, report.Refused, why, workpool.Change{Type: "CANCELLED", Name: "Cancelled"})
}

// settle proposes the state that ends a submission, and names the outcome.
func (s *submission) settle(ctx context.Context, outcome report.Outcome, why string, change workpool.Change) *Result {
	why = s.Session.Options.Redactor.Text(why)
	change.RunID, change.Message = s.Run.ID, why
	change.Still = func(run *prefect.FlowRun) bool { return s.Claim.HeldBy(run.State) }
	ctx, cancel := s.undoing(ctx)
	defer cancel()
	done, err := s.Session.Propose(ctx, change)
	switch {
	case err != nil:
		return s.result(report.Unknown, "%s; and that could not be written: %s; the run stays PENDING until a later sweep settles it", why, s.Session.Text(err))
	case !done.Accepted:
		return s.result(report.Skipped, "%s; %s", why, done.Answer)
	}
	return s.result(outcome, "%s", why)
}

// Pause is how long to wait before the next attempt.
func Pause(attempt int, err error) time.Duration {
	const most = 5 * time.Second
	wait := min(500*time.Millisecond<<min(attempt, 10), most)
	var e *kube.Error
	if errors.As(err, &e) {
		wait = max(wait, min(e.RetryAfter, most))
	}
	return wait
}

// hint says what to do about the commonest refusals.
func hint(e *kube.Error) string {
	switch e.Status {
	case http.StatusForbidden:
		return ". If RBAC refused it: Slipway's service account needs the verbs of its Role in that namespace"
	case http.StatusNotFound:
		return ". Create the namespace, or name another one in the job variable namespace"
	default:
		return ""
	}
}
