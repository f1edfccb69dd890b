package sweep

import (
	"context"
	"slices"

	"slipway/dispatch/claim"
	"slipway/kube"
)

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
