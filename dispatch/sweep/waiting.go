package sweep

import (
	"context"
	"slices"

	"slipway/kube"
	"slipway/prefect"
)

// waitingRun is a claimed run whose Job has been there for a while.
type waitingRun struct {
	id    string
	state string
	job   *listed
}

// mayBeStuck is the Job of a run whose pod should have started by now; nil if there is
// none. A run that was claimed ahead waits too, in a pod that is well.
func (s *sweep) mayBeStuck(run *prefect.FlowRun, jobs []*listed) *listed {
	if run.StateType != "PENDING" || len(jobs) == 0 || s.young(jobs[0].created) {
		return nil
	}
	return jobs[0]
}

// stuckOnes picks, from one list of pods for each namespace, the runs whose pods are
// kept from starting.
func (s *sweep) stuckOnes(ctx context.Context, waiting []*waitingRun) []*subject {
	names := map[string][]string{}
	for _, w := range waiting {
		names[w.job.place.Namespace] = append(names[w.job.place.Namespace], w.job.place.Name)
	}
	newest := map[string]kube.PodStatus{}
	unknown := map[string]bool{}
	for namespace, jobs := range names {
		pods, err := s.session.Kube.Pods(ctx, namespace, jobs)
		if err != nil {
			s.miss(err, "what keeps its flow runs waiting is not known")
			unknown[namespace] = true
		}
		for _, pod := range pods {
			newest[namespace+"/"+pod.Job] = pod
		}
	}
	var stuck []*subject
	for _, w := range waiting {
		pod, there := newest[w.job.place.String()]
		mayStart := there && (pod.Started && pod.Diagnosis == nil)
		if !unknown[w.job.place.Namespace] && !mayStart && (there || w.job.podless) {
			stuck = append(stuck, newSubject(w.id, w.state, []*listed{w.job}))
		}
	}
	return stuck
}

// newestPod is that of a Job; false if it has none.
func newestPod(pods []kube.PodStatus) (kube.PodStatus, bool) {
	if len(pods) == 0 {
		return kube.PodStatus{}, false
	}
	return slices.MaxFunc(pods, func(a, b kube.PodStatus) int { return a.Created.Compare(b.Created) }), true
}
