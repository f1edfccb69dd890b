package kube

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podObject is the part of a pod's JSON that is read. The rest of its spec is the
// larger part: environments hold the parameters of flow runs.
type podObject struct {
	Metadata struct {
		Namespace         string            `json:"namespace"`
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		Labels            map[string]string `json:"labels"`
		CreationTimestamp metav1.Time       `json:"creationTimestamp"`
	} `json:"metadata"`
	Spec struct {
		InitContainers []containerName `json:"initContainers"`
		Containers     []containerName `json:"containers"`
	} `json:"spec"`
	Status corev1.PodStatus `json:"status"`
}

type containerName struct {
	Name string `json:"name"`
}

// containerStatus is the status of one container of a pod.
type containerStatus struct {
	corev1.ContainerStatus
	isInit bool
}

// containers are the statuses of the init containers, then of the main ones.
func (p *podObject) containers() []containerStatus {
	var all []containerStatus
	for _, c := range p.Status.InitContainerStatuses {
		all = append(all, containerStatus{c, true})
	}
	for _, c := range p.Status.ContainerStatuses {
		all = append(all, containerStatus{c, false})
	}
	return all
}

// diagnose finds the first thing that is wrong with a pod by its status, in the
// order of the Python observer, and then what only Slipway has a category for. It
// returns nil if nothing is.
func diagnose(pod *podObject) *Diagnosis {
	for _, find := range []func(*podObject) *Diagnosis{
		waitsToPullOrRestart, ended, unschedulable, evicted, misconfigured, exited,
	} {
		if d := find(pod); d != nil {
			d.Advice = cmp.Or(d.Advice, adviceByCategory[d.Category])
			d.Since = latest(d.Since, pod.Metadata.CreationTimestamp.Time)
			return d
		}
	}
	return nil
}

func waitsToPullOrRestart(pod *podObject) *Diagnosis {
	for _, c := range pod.containers() {
		if c.State.Waiting == nil {
			continue
		}
		switch c.State.Waiting.Reason {
		case "ErrImagePull", "ImagePullBackOff":
			return &Diagnosis{Category: ImagePullError, Words: ofContainer(c, c.State.Waiting.Message), Since: pod.couldRestart(c)}
		case "CrashLoopBackOff":
			return &Diagnosis{Category: CrashLoop, Words: ofContainer(c, c.State.Waiting.Message+lastExit(c)), Since: pod.couldStart(c)}
		}
	}
	return nil
}

func ended(pod *podObject) *Diagnosis {
	for _, c := range pod.containers() {
		if c.State.Terminated == nil {
			continue
		}
		switch c.State.Terminated.Reason {
		case "OOMKilled":
			return &Diagnosis{Category: OOMKilled, Words: ofContainer(c, "it was killed for using more memory than its limit"), Since: pod.failingSince(c)}
		case "Evicted":
			return &Diagnosis{Category: Evicted, Words: ofContainer(c, c.State.Terminated.Message), Since: pod.failingSince(c)}
		}
	}
	return nil
}

func unschedulable(pod *podObject) *Diagnosis {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable {
			return &Diagnosis{Category: unschedulableFor(strings.ToLower(c.Message)), Words: c.Message, Since: c.LastTransitionTime.Time}
		}
	}
	return nil
}

// unschedulableFor reads the scheduler's message: nothing else says the cause.
func unschedulableFor(message string) Category {
	switch {
	case strings.Contains(message, "taint"):
		return Taint
	case strings.Contains(message, "affinity"), strings.Contains(message, "node selector"):
		return NodeAffinity
	case strings.Contains(message, "insufficient"):
		return InsufficientResources
	}
	return Unschedulable
}

func evicted(pod *podObject) *Diagnosis {
	if pod.Status.Reason != "Evicted" {
		return nil
	}
	return &Diagnosis{Category: Evicted, Words: pod.Status.Message, Since: latest(pod.conditionSince(corev1.DisruptionTarget), pod.phaseSince())}
}

func misconfigured(pod *podObject) *Diagnosis {
	for _, c := range pod.containers() {
		if c.State.Waiting == nil {
			continue
		}
		switch reason := c.State.Waiting.Reason; reason {
		case "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "InvalidImageName", "ErrImageNeverPull":
			return &Diagnosis{Category: ConfigError, Words: ofContainer(c, c.State.Waiting.Message), Advice: adviceByReason[reason], Since: pod.couldRestart(c)}
		}
	}
	return nil
}

func exited(pod *podObject) *Diagnosis {
	for _, c := range pod.containers() {
		if c.State.Running != nil {
			continue // it has been started again
		}
		for _, end := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if end != nil && end.ExitCode != 0 {
				return &Diagnosis{Category: Exited, Words: ofContainer(c, exitText(end)), Since: pod.failingSince(c)}
			}
		}
	}
	return nil
}

// lastExit says how a container ended that the kubelet is about to start again.
func lastExit(c containerStatus) string {
	if end := c.LastTerminationState.Terminated; end != nil {
		return " (" + exitText(end) + ")"
	}
	return ""
}

func exitText(end *corev1.ContainerStateTerminated) string {
	return strings.TrimSpace(fmt.Sprintf("exit code %d %s %s", end.ExitCode, end.Reason, end.Message))
}

func ofContainer(c containerStatus, words string) string {
	reason := ""
	if c.State.Waiting != nil {
		reason = c.State.Waiting.Reason + ": "
	}
	return strings.TrimSpace("container " + cmp.Or(c.Name, "without a name") + ": " + reason + words)
}

// conditionSince is when a condition became true; zero: it is not true.
func (p *podObject) conditionSince(condition corev1.PodConditionType) time.Time {
	for _, c := range p.Status.Conditions {
		if c.Type == condition && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// couldStart is when nothing else kept a container from its first start any more:
// the pod was scheduled, its volumes and its sandbox were ready, and the init
// containers before it had ended, or were running beside it.
func (p *podObject) couldStart(c containerStatus) time.Time {
	since := latest(p.Metadata.CreationTimestamp.Time, p.conditionSince(corev1.PodScheduled), p.conditionSince(corev1.PodReadyToStartContainers))
	if !c.isInit {
		return latest(since, p.conditionSince(corev1.PodInitialized))
	}
	for _, other := range p.Status.InitContainerStatuses {
		if other.Name == c.Name {
			break // they start in this order
		}
		if end := other.State.Terminated; end != nil {
			since = latest(since, end.FinishedAt.Time)
		}
		if running := other.State.Running; running != nil {
			since = latest(since, running.StartedAt.Time)
		}
	}
	return since
}

// couldRestart is couldStart for a cause that a container meets between two starts:
// it ran until its last end.
func (p *podObject) couldRestart(c containerStatus) time.Time {
	since := p.couldStart(c)
	if end := c.LastTerminationState.Terminated; end != nil {
		since = latest(since, end.FinishedAt.Time)
	}
	return since
}

// failingSince is the end of a container in a pod that has ended. In a pod that
// starts the container again it is couldStart: each restart may be the one that
// gets further.
func (p *podObject) failingSince(c containerStatus) time.Time {
	if end := c.State.Terminated; end != nil && (p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded) {
		return latest(p.Metadata.CreationTimestamp.Time, end.FinishedAt.Time)
	}
	return p.couldStart(c)
}

// phaseSince is when a pod came into its phase; zero if its status does not say.
func (p *podObject) phaseSince() time.Time {
	var since time.Time
	switch p.Status.Phase {
	case corev1.PodPending:
		since = p.Metadata.CreationTimestamp.Time
	case corev1.PodRunning:
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Running != nil {
				since = latest(since, c.State.Running.StartedAt.Time)
			}
		}
		if since.IsZero() && p.Status.StartTime != nil {
			since = p.Status.StartTime.Time
		}
	case corev1.PodSucceeded, corev1.PodFailed:
		for _, c := range p.containers() {
			if c.State.Terminated != nil {
				since = latest(since, c.State.Terminated.FinishedAt.Time)
			}
		}
	}
	return since
}

// hasStarted reports whether a container runs or has ever run.
func (p *podObject) hasStarted() bool {
	switch p.Status.Phase {
	case corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed:
		return true
	}
	for _, c := range p.containers() {
		if c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil || c.RestartCount > 0 {
			return true
		}
	}
	return false
}
