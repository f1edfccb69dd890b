package dispatch

import (
	"context"

	"github.com/google/uuid"

	"slipway/kube"
)

// adopt takes a run that a Python worker has claimed for Slipway's own, if it has or
// had a Job in this cluster and the settings say that the worker is gone. A run
// without a Job is not adopted: its worker may have died before it made one, and
// what that Job would have been called nobody knows.
func (s *sweep) adopt(ctx context.Context, one *suspect, mine []*kube.JobStatus) error {
	if !s.Adopt || one.whose != elsewhere || isSlipways(one.claim.Details.TransitionID) {
		return nil
	}
	var newest *kube.JobStatus
	for _, job := range mine {
		if s.isWorkers(*job) && (newest == nil || job.Created.After(newest.Created)) {
			newest = job
		}
	}
	if newest != nil {
		one.whose, one.job, one.other, one.sure = ours, newest, false, s.sees(newest.Namespace)
		return nil
	}
	namespace, name, err := placeOf(one.run.InfrastructurePID)
	if err != nil || !s.sees(namespace) {
		return nil //nolint:nilerr // no pid: it has had no Job that anybody knows
	}
	if _, err = s.Kube.Job(ctx, namespace, name); err != nil && kube.KindOf(err) != kube.NotFound {
		return err
	}
	if err != nil {
		one.whose, one.gone, one.sure = ours, true, true
	}
	return nil
}

// isSlipways tells Slipway's claims, of whatever cluster, from a worker's.
func isSlipways(transitionID string) bool {
	id, err := uuid.Parse(transitionID)
	return err == nil && id.Version() == 8
}

// isWorkers tells whether a Job was made by a Python worker.
func (s *sweep) isWorkers(job kube.JobStatus) bool {
	return job.Annotations[annotationTransition] == ""
}

// minds tells whether a Job is Slipway's to look after in this sweep.
func (s *sweep) minds(job kube.JobStatus) bool {
	return s.isOurs(job) || s.Adopt && s.isWorkers(job) && job.Labels[labelPool] == s.report.Pool
}

// labelPool is on the Jobs of Prefect 3's workers; those of 2.20 have none, and
// their leftovers are left alone.
const labelPool = "prefect.io/work-pool-name"
