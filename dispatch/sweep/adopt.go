package sweep

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"slipway/kube"
)

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
	if err := l.eachJob(ctx, "", consider); err != nil {
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
