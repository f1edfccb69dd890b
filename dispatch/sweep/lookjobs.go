package sweep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

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
	err := l.session.Kube.EachJob(ctx, kube.JobList{Namespace: namespace, LabelSelector: claim.LabelFlowRun + "=" + w.RunID, Keys: append(slices.Clone(keptKeys), claim.LabelPool, claim.LabelWorkersPool)}, func(found *kube.Job) {
		job := l.jobOf(found)
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

// adopt takes a run that a Python worker has claimed for Slipway's own, if it has or
// had a Job in this cluster and the settings say that the worker is gone. A run
// without a Job is not adopted: its worker may have died before it made one, and
// what that Job would have been called nobody knows.
func (l *look) adopt(ctx context.Context) {
	w := &l.world
	if !l.session.Options.Adopt || w.Owner != Foreign {
		return
	}
	newest := l.newestWorkers(ctx)
	switch {
	case newest != nil:
		w.Owner, w.Adopted, w.Job, w.Reported = Ours, true, *newest, true
		w.Others = slices.DeleteFunc(w.Others, func(job Job) bool { return job.ClaimID == "" })
	case w.PID.Known() && !l.ofOtherCluster():
		w.Owner, w.Adopted, w.Reported = Ours, true, true
		l.readWorkers(ctx)
	}
}

// newestWorkers is the newest Job that a Python worker has made of the run; nil if none
// is in hand or, for a run without a pid, in any namespace that may be listed.
func (l *look) newestWorkers(ctx context.Context) *Job {
	var newest *Job
	consider := func(job Job) {
		if job.ClaimID == "" && job.OfPool && (newest == nil || job.Created.After(newest.Created)) {
			newest = &job
		}
	}
	for _, job := range l.world.Others {
		consider(job)
	}
	if newest != nil || l.world.PID.Known() {
		return newest
	}
	list := kube.JobList{LabelSelector: claim.LabelFlowRun + "=" + l.world.RunID, Keys: append(slices.Clone(keptKeys), claim.LabelPool, claim.LabelWorkersPool)}
	if err := l.session.Kube.EachJob(ctx, list, func(found *kube.Job) { consider(l.jobOf(found)) }); err != nil {
		return nil
	}
	return newest
}

// ofOtherCluster tells whether a pid of Prefect 2 names another cluster than this one.
func (l *look) ofOtherCluster() bool {
	cluster, _, _ := strings.Cut(l.run.InfrastructurePID, ":")
	_, named := uuid.Parse(cluster)
	_, known := uuid.Parse(l.session.Cluster)
	return named == nil && known == nil && !strings.EqualFold(cluster, l.session.Cluster)
}

// readWorkers reads the worker's Job that the pid names.
func (l *look) readWorkers(ctx context.Context) {
	w := &l.world
	found, err := l.session.Kube.Job(ctx, w.PID.Namespace, w.PID.Name)
	switch {
	case kube.IsNotFound(err):
		w.Job = l.absent(ctx, w.PID)
	case err != nil:
		w.Job = Job{Place: w.PID, Reason: l.session.Text(err)}
	default:
		if w.Job = l.jobOf(found); !w.Job.OfRun {
			w.Job = Job{Place: w.PID, Reason: "the Job that its infrastructure_pid names is of something else"}
		}
	}
}

// readPods learns what the pods of an active Job do, where that decides.
func (l *look) readPods(ctx context.Context) {
	w := &l.world
	switch {
	case w.Job.State == Active && (w.State == "PENDING" || w.State == "SCHEDULED"):
		l.readStart(ctx)
	case w.Job.State == Failed:
		w.Job.PodLives = l.absent(ctx, w.Job.Place).State == Ending
	}
	if w.State != "CRASHED" && w.State != "PENDING" && w.State != "RUNNING" {
		return
	}
	for i := range w.Others {
		if w.Others[i].State == Active {
			w.Others[i].NotStarted = l.notStarted(ctx, w.Others[i].Place)
		}
	}
}

// readStart finds what keeps the claim's pod from starting.
func (l *look) readStart(ctx context.Context) {
	w := &l.world
	pods, err := l.session.Kube.Pods(ctx, w.Job.Place.Namespace, []string{w.Job.Place.Name})
	if err != nil {
		return
	}
	pod, there := newestPod(pods)
	w.Job.NotStarted = !slices.ContainsFunc(pods, mayWork)
	if there {
		w.Stuck, err = l.session.Kube.DiagnosePending(ctx, pod)
	} else if job := l.found[w.Job.Place]; w.Job.Podless && job != nil {
		w.Stuck, err = l.session.Kube.DiagnosePodless(ctx, job)
	}
	if err != nil {
		l.session.Warn("what keeps the pod of Job %s from starting is not known: %v", w.Job.Place, err)
	}
	if w.Stuck != nil {
		w.Stuck.Since = l.session.KubeTime(w.Stuck.Since)
	}
}

// notStarted tells whether provably no container of a Job has ever run.
func (l *look) notStarted(ctx context.Context, place claim.Place) bool {
	pods, err := l.session.Kube.Pods(ctx, place.Namespace, []string{place.Name})
	return err == nil && !slices.ContainsFunc(pods, mayWork)
}

// mayWork tells whether a pod has started and not ended.
func mayWork(p kube.PodStatus) bool {
	return p.Started && (p.Phase == "Pending" || p.Phase == "Running")
}
