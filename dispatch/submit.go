package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"slipway/kube"
	"slipway/render"
)

// submit creates the Job of a claim that this dispatcher holds.
func (f *flight) submit(ctx context.Context) {
	f.line.Namespace, f.line.Job = f.job.Namespace, f.name
	if !f.putSecrets(ctx) {
		return
	}
	manifest := f.job.Manifest(f.named(f.job, f.claim.id))
	for attempt := 0; ; attempt++ {
		if f.claim.age(f.Dispatcher.Now()) > f.Deadline {
			f.outOfTime(ctx)
			return
		}
		job, warnings, err := f.Kube.CreateJob(ctx, f.job.Namespace, f.name, manifest)
		if kube.KindOf(err) == kube.Exists && err != nil {
			job, err = f.meet(ctx)
		}
		if err == nil {
			if job != nil {
				f.landed(ctx, job, warnings)
			}
			return
		}
		if f.giveUp(ctx, attempt, err) {
			return
		}
		if f.Sleep(ctx, pause(attempt, err)) != nil {
			f.outOfTime(ctx)
			return
		}
	}
}

// meet reads the Job that has the name already. It is ours if it bears this
// claim, from an attempt whose answer was lost. A nil Job without an error means
// that the flight has ended.
func (f *flight) meet(ctx context.Context) (*kube.Job, error) {
	job, err := f.Kube.Job(ctx, f.job.Namespace, f.name)
	switch {
	case kube.KindOf(err) == kube.NotFound && err != nil:
		// It was there a moment ago. Made again, it might run twice.
		f.end(Unknown, "its Job %s/%s was deleted while it was being made; a later pass settles it", f.job.Namespace, f.name)
		return nil, nil
	case err != nil:
		f.unsure = true
		return nil, err
	case !strings.EqualFold(job.Annotations[annotationTransition], f.claim.id):
		f.crash(ctx, fmt.Sprintf("Slipway cannot create the Job %s/%s: a Job of that name exists and belongs to something else", f.job.Namespace, f.name))
		return nil, nil
	case job.Deleting || job.Finished:
		f.end(Unknown, "its Job %s/%s exists and is over already; a later pass settles it", f.job.Namespace, f.name)
		return nil, nil
	}
	return job, nil
}

// patience is how many refusals that time may mend are met before a claim is
// given back.
const patience = 3

// giveUp ends the flight if another attempt would be useless or harmful.
func (f *flight) giveUp(ctx context.Context, attempt int, err error) bool {
	var e *kube.Error
	errors.As(err, &e)
	switch kube.KindOf(err) {
	case kube.Refused:
		if f.unsure {
			f.end(Unknown, "%s, after an attempt whose effect is not known; a later pass settles it", f.plain(err))
			return true
		}
		if e.Forbidden() && !f.believe(ctx, attempt) {
			return false
		}
		f.dropSecrets(ctx)
		f.crash(ctx, "Slipway cannot create the Job of this flow run: "+f.plain(err)+hint(e))
		return true
	case kube.NotDone:
		quota := e.Status == http.StatusForbidden
		if f.swept {
			f.end(Unknown, "%s; the next sweep tries again", f.plain(err))
			return true
		}
		if f.unsure || !quota && attempt+1 < patience {
			return false
		}
		f.shutDoor(e, quota)
		f.dropSecrets(ctx)
		f.unclaim(ctx, f.plain(err), e.RetryAfter)
		return true
	default:
		f.unsure = true
		return false
	}
}

// disbelief is how many refusals by RBAC are put down to a server that does not
// even say whether it is ready; with pauses, twelve seconds.
const disbelief = 5

// believe tells whether a refusal by RBAC is the server's last word: the second one
// of a server that is ready. One that is starting refuses everybody until it has
// read its roles (seen on kube-apiserver 1.36.3).
func (f *flight) believe(ctx context.Context, attempt int) bool {
	err := f.Kube.Ready(ctx)
	if err == nil || kube.KindOf(err) == kube.Refused && attempt >= disbelief {
		again := f.forbidden
		f.forbidden = true
		return again
	}
	return false
}

// shutDoor keeps the pass from claiming more runs that would meet the same.
func (f *flight) shutDoor(e *kube.Error, quota bool) {
	namespace := ""
	if quota {
		namespace = f.job.Namespace
	}
	f.shutNamespace(namespace, "not claimed, because of what the run before met: "+f.plain(e))
	if quota {
		return
	}
	kind := Unavailable
	if e.Status == http.StatusUnauthorized {
		kind = Denied
	}
	f.fail(&Error{Kind: kind, Message: "create Jobs", Err: e})
}

// outOfTime: past the deadline another process may take over, so this one stops.
func (f *flight) outOfTime(ctx context.Context) {
	if f.unsure || f.swept {
		f.end(Unknown, "whether its Job exists could not be learned within %s (SLIPWAY_DEADLINE); a later pass settles it", f.Deadline)
		return
	}
	f.dropSecrets(ctx)
	f.unclaim(ctx, fmt.Sprintf("no Job could be created within %s (SLIPWAY_DEADLINE)", f.Deadline), 0)
}

// landed reports a Job that exists. What fails from here on is a nuisance and
// no more: the run will start.
func (f *flight) landed(ctx context.Context, job *kube.Job, warnings []string) {
	for _, w := range warnings {
		f.line.Warnings = append(f.line.Warnings, "the API server says: "+f.redact(w))
	}
	for _, secret := range f.job.Secrets {
		if !secret.OwnedByJob {
			continue
		}
		if err := f.Kube.OwnSecret(ctx, secret.Namespace, secret.Name, job); err != nil {
			f.line.Warnings = append(f.line.Warnings, f.plain(err)+"; it will outlive its Job")
		}
	}
	if err := f.Prefect.SetInfrastructurePID(ctx, f.run.ID, f.pid(job)); err != nil {
		f.line.Warnings = append(f.line.Warnings, "the infrastructure pid was not written: "+f.plain(err))
	}
	f.end(Submitted, "")
	f.tell(levelInfo, fmt.Sprintf("Slipway %q submitted this flow run as Job %s/%s.", f.WorkerName, job.Namespace, job.Name))
	for _, w := range f.line.Warnings {
		f.tell(levelWarning, w)
	}
}

// pid is the spelling that the server's own clean-up and the Python worker of
// that version understand.
func (f *flight) pid(job *kube.Job) string {
	pid := job.Namespace + ":" + job.Name
	if f.as == render.V2 {
		return f.cluster + ":" + pid
	}
	return pid
}

// pause is how long to wait before the next attempt.
func pause(attempt int, err error) time.Duration {
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
