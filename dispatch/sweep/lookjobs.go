package sweep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"slipway/dispatch/claim"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/render"
)

// readJobs reads the Jobs at places that the lists or the run name. The claim's own is
// kept apart from those of earlier claims. A place that may not be read keeps nothing
// from being decided: no Job of Slipway's can be there.
func (l *look) readJobs(ctx context.Context, places []claim.Place) error {
	for _, place := range places {
		found, err := l.read(ctx, place)
		switch {
		case kube.IsRefused(err):
		case kube.IsNotFound(err):
			if gone := l.absent(ctx, place); gone.State != Absent && l.run != nil && !place.IsOf(l.world.ClaimID) {
				l.world.Others = append(l.world.Others, gone)
			}
		case err != nil:
			return err
		default:
			l.keep(l.jobOf(found))
		}
	}
	return nil
}

// read reads a Job. Its error is a refusal only if the server means it.
func (l *look) read(ctx context.Context, place claim.Place) (found *kube.Job, err error) {
	err = l.session.ConfirmRefused(ctx, func() (err error) {
		found, err = l.session.Kube.Job(ctx, place.Namespace, place.Name)
		return err
	})
	return found, err
}

// keep sorts a Job in. One of another run has nothing to say here.
func (l *look) keep(job Job) {
	w := &l.world
	switch {
	case job.ClaimID != "" && strings.EqualFold(job.ClaimID, w.ClaimID):
		w.Job = job
	case job.ClaimID != "" && claim.Verify(l.session.Cluster, w.RunID, job.ClaimID):
		w.Others = append(w.Others, job)
	case job.ClaimID == "" && l.session.Options.Adopt && job.OfPool:
		w.Others = append(w.Others, job)
	}
}

// jobOf turns what the API server says into what decides.
func (l *look) jobOf(j *kube.Job) Job {
	l.found[claim.Place{Namespace: j.Namespace, Name: j.Name}] = j
	id := j.Annotations[claim.AnnotationID]
	pool := j.Labels[claim.LabelPool]
	if id == "" {
		pool = j.Labels[claim.LabelWorkersPool]
	}
	job := Job{
		Place: claim.Place{Namespace: j.Namespace, Name: j.Name}, UID: j.UID, ClaimID: id, State: Active,
		Reason: strings.TrimSpace(j.Reason + " " + j.Message), Created: l.session.KubeTime(j.Created), FinishedAt: l.session.KubeTime(j.FinishedAt),
		OfRun:      strings.EqualFold(j.Labels[claim.LabelFlowRun], l.world.RunID),
		OfPool:     strings.EqualFold(pool, l.session.Pool.ID) && strings.EqualFold(j.Labels[claim.LabelFlowRun], l.world.RunID),
		Superseded: l.superseded(id), Podless: j.Podless,
	}
	switch {
	case j.Complete:
		job.State = Complete
	case j.Failed:
		job.State = Failed
	case j.Deleting:
		job.State = Ending
	}
	return job
}

// findJob makes sure of the claim's Job if nothing above has shown it: it is where the
// pid or the claim says; a claim that says nothing is looked for where its rendering
// would put it.
func (l *look) findJob(ctx context.Context) {
	w := &l.world
	if w.Job.State != Unseen || w.Owner == Nobody {
		return
	}
	switch {
	case w.Owner == Ours && w.Job.Place.Known():
		l.readPlace(ctx, w.Job.Place)
	case w.Owner == Ours && w.State == "PENDING":
		l.readRendered(ctx)
	case w.Owner == Ours:
		l.findAnywhere(ctx, "")
	case w.Owner == Foreign && w.State == "PENDING" && l.session.Options.ForeignOrphanGrace > 0:
		l.findForeign(ctx)
	}
}

// readPlace reads the one Job that can be the claim's.
func (l *look) readPlace(ctx context.Context, place claim.Place) {
	w := &l.world
	found, err := l.read(ctx, place)
	switch {
	case kube.IsNotFound(err):
		w.Job = l.absent(ctx, place)
	case err != nil:
		w.Job = Job{Place: place, Reason: l.session.Text(err), Refused: kube.IsRefused(err)}
	default:
		if w.Job = l.jobOf(found); !strings.EqualFold(w.Job.ClaimID, w.ClaimID) {
			w.Job = Job{Place: place, Reason: "a Job of that name belongs to something else"}
		}
	}
}

// absent is a Job that is not there. While a pod of it lives, it is only ending: its
// engine may still report.
func (l *look) absent(ctx context.Context, place claim.Place) Job {
	pods, err := l.session.Kube.Pods(ctx, place.Namespace, []string{place.Name})
	if err != nil && !kube.IsRefused(err) {
		return Job{Place: place, Reason: l.session.Text(err)}
	}
	for _, pod := range pods {
		if pod.Phase == "Pending" || pod.Phase == "Running" {
			return Job{Place: place, State: Ending, Reason: "the Job is gone, and its pod " + pod.Name + " is not"}
		}
	}
	return Job{Place: place, State: Absent}
}

// readRendered looks for the Job of a claim that does not say where that is.
func (l *look) readRendered(ctx context.Context) {
	job, err := l.session.Render(ctx, l.run, l.world.ClaimID)
	var fault *render.Fault
	switch {
	case errors.As(err, &fault), errors.Is(err, workpool.ErrDeploymentGone):
		l.findAnywhere(ctx, "")
	case err != nil:
		l.world.Job.Reason = l.session.Text(err)
	default:
		l.readPlace(ctx, claim.Place{Namespace: job.Namespace, Name: claim.JobName(job.NameBase, l.world.ClaimID)})
	}
}

// findAnywhere looks for Jobs of the run in all namespaces, or in one. Only a list of
// all proves that there is none.
func (l *look) findAnywhere(ctx context.Context, namespace string) {
	w := &l.world
	err := l.eachJob(ctx, namespace, func(job Job) {
		// A Job of an earlier attempt is not that of somebody else's claim.
		foreign := w.Owner == Foreign && (!job.finished() || job.ClaimID == "" && !job.Created.Before(w.ClaimedAt))
		if foreign || w.Owner != Foreign && strings.EqualFold(job.ClaimID, w.ClaimID) {
			w.Job = job
		}
	})
	switch {
	case err != nil:
		w.Job.Reason = l.session.Text(err)
	case w.Job.State == Unseen:
		w.Job.State = Absent
	}
}

// eachJob lists the Jobs of the run in a namespace, or in all ("").
func (l *look) eachJob(ctx context.Context, namespace string, f func(Job)) error {
	list := kube.JobList{
		Namespace: namespace, LabelSelector: claim.LabelFlowRun + "=" + l.world.RunID,
		Keys: append(slices.Clone(keptKeys), claim.LabelPool, claim.LabelWorkersPool),
	}
	return l.session.Kube.EachJob(ctx, list, func(found *kube.Job) { f(l.jobOf(found)) })
}

// findForeign looks where the Job of somebody else's old claim would be: in the
// namespace that the pid or its rendering names.
func (l *look) findForeign(ctx context.Context) {
	namespace := l.world.PID.Namespace
	if namespace == "" {
		job, err := l.session.Render(ctx, l.run, l.world.ClaimID)
		if err != nil {
			l.world.Job.Reason = fmt.Sprintf("its Job cannot be rendered: %s", l.session.Text(err))
			return
		}
		namespace = job.Namespace
	}
	l.findAnywhere(ctx, namespace)
}
