package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var ownConditions = []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady}

func initialStatus(spec *corev1.Pod) corev1.PodStatus {
	now := metav1.Now()
	status := corev1.PodStatus{
		Phase: corev1.PodPending, HostIP: "127.0.0.1", PodIP: "127.0.0.1", PodIPs: []corev1.PodIP{{IP: "127.0.0.1"}},
		StartTime: &now, QOSClass: spec.Status.QOSClass,
	}
	for _, t := range ownConditions {
		value := corev1.ConditionFalse
		if t == corev1.PodScheduled {
			value = corev1.ConditionTrue
		}
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: t, Status: value, LastTransitionTime: now})
	}
	waiting := func(containers []corev1.Container) (all []corev1.ContainerStatus) {
		for _, c := range containers {
			all = append(all, corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}})
		}
		return all
	}
	status.InitContainerStatuses = waiting(spec.Spec.InitContainers)
	status.ContainerStatuses = waiting(spec.Spec.Containers)
	return status
}

func foreignConditions(current *corev1.Pod) (foreign []corev1.PodCondition) {
	for _, c := range current.Status.Conditions {
		own := false
		for _, t := range ownConditions {
			own = own || c.Type == t
		}
		if !own {
			foreign = append(foreign, c)
		}
	}
	return foreign
}

func (p *pod) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *pod) condition(t corev1.PodConditionType, value bool, reason string) {
	for i := range p.status.Conditions {
		c := &p.status.Conditions[i]
		status := corev1.ConditionFalse
		if value {
			status = corev1.ConditionTrue
		}
		if c.Type == t && (c.Status != status || c.Reason != reason) {
			c.Status, c.Reason, c.LastTransitionTime = status, reason, metav1.Now()
		}
	}
}

func (p *pod) initialized() {
	p.set(func() { p.condition(corev1.PodInitialized, true, "") })
}

func (p *pod) running(status *corev1.ContainerStatus, started time.Time) {
	yes := true
	p.set(func() {
		status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(started)}}
		status.Ready, status.Started = true, &yes
		status.ContainerID = "process://" + string(p.spec.UID) + "/" + status.Name
		if len(p.spec.Spec.InitContainers) == 0 || status.Name != p.spec.Spec.InitContainers[0].Name {
			p.status.Phase = corev1.PodRunning
			p.condition(corev1.ContainersReady, true, "")
			p.condition(corev1.PodReady, true, "")
		}
	})
}

func (p *pod) terminated(status *corev1.ContainerStatus, code, signal int32, started time.Time, reason string) {
	if reason == "" {
		reason = "Completed"
		if code != 0 {
			reason = "Error"
		}
	}
	no := false
	p.set(func() {
		status.Ready, status.Started = false, &no
		status.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, Signal: signal, Reason: reason, ContainerID: status.ContainerID,
			StartedAt: metav1.NewTime(started), FinishedAt: metav1.Now(),
		}}
	})
}

// finished sets the phase from how the containers ended.
func (p *pod) finished() {
	p.set(func() {
		p.status.Phase = corev1.PodSucceeded
		reason := "PodCompleted"
		for _, all := range [][]corev1.ContainerStatus{p.status.InitContainerStatuses, p.status.ContainerStatuses} {
			for i := range all {
				if t := all[i].State.Terminated; t == nil || t.ExitCode != 0 {
					p.status.Phase, reason = corev1.PodFailed, "PodFailed"
				}
			}
		}
		p.condition(corev1.ContainersReady, false, reason)
		p.condition(corev1.PodReady, false, reason)
	})
}
