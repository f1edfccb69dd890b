package kube

import (
	"cmp"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Category names a diagnosis. The first ones are those of prefect-kubernetes 0.8.0
// (diagnostics.py), under the same conditions, so that automations match either's.
type Category string

const (
	ImagePullError        Category = "ImagePullError"
	CrashLoop             Category = "CrashLoopBackOff"
	OOMKilled             Category = "OOMKilled"
	Evicted               Category = "Evicted"
	Unschedulable         Category = "Unschedulable"
	InsufficientResources Category = "Unschedulable.InsufficientResources"
	NodeAffinity          Category = "Unschedulable.NodeAffinity"
	Taint                 Category = "Unschedulable.Taint"
)

// What the Python worker has no name for.
const (
	Exited        Category = "Exited"         // a container ended with a code
	ConfigError   Category = "ConfigError"    // a container cannot be made from its spec
	QuotaExceeded Category = "QuotaExceeded"  // the Job's pods are refused by a ResourceQuota
	PodsRefused   Category = "PodsNotCreated" // the Job's pods are refused for another reason
)

// Diagnosis is what is wrong with a pod, or with a Job that gets none.
type Diagnosis struct {
	Category Category
	Words    string // the cluster's own, with the container that they are about
	Advice   string // what mends it
}

// Prefects tells whether the Python observer finds it too, which makes it a part
// of its event's id.
func (d *Diagnosis) Prefects() bool {
	return d != nil && d.Category != Exited && d.Category != ConfigError && d.Category != QuotaExceeded && d.Category != PodsRefused
}

func (d *Diagnosis) String() string { return string(d.Category) + ": " + d.Words }

var advice = map[Category]string{
	ImagePullError:        "Check the image's name and tag, and that image_pull_secrets let this namespace pull it.",
	CrashLoop:             "The container's log tells why it ends; check its command, its environment and its volumes.",
	OOMKilled:             "Raise the container's memory limit, or make the flow need less.",
	Evicted:               "Its node ran short of memory, disk or processes: request what the flow needs, or look after the node.",
	Unschedulable:         "Look at the nodes' free resources, labels and taints beside what the pod asks for.",
	InsufficientResources: "Request less, or add nodes.",
	NodeAffinity:          "No node has the labels that the pod's node selector or affinity asks for.",
	Taint:                 "Give the pod a toleration for the nodes' taints, or add nodes without them.",
	Exited:                "The container's log tells why it ended.",
	ConfigError:           "Check the Secrets, ConfigMaps and the command that the container names.",
	QuotaExceeded:         "Raise the namespace's ResourceQuota, request less, or wait for other pods to end.",
	PodsRefused:           "Mend what the message names; the Job controller tries again by itself.",
}

// diagnose finds the first thing that is wrong with a pod, in the order of the
// Python observer, and then what only Slipway has a name for; nil if nothing is.
func diagnose(status *corev1.PodStatus) *Diagnosis {
	containers := append(append([]corev1.ContainerStatus{}, status.InitContainerStatuses...), status.ContainerStatuses...)
	for _, find := range []func(*corev1.PodStatus, []corev1.ContainerStatus) *Diagnosis{
		waiting, terminated, unschedulable, evicted, misconfigured, exited,
	} {
		if d := find(status, containers); d != nil {
			d.Advice = advice[d.Category]
			return d
		}
	}
	return nil
}

func waiting(_ *corev1.PodStatus, containers []corev1.ContainerStatus) *Diagnosis {
	for _, c := range containers {
		if c.State.Waiting == nil {
			continue
		}
		switch c.State.Waiting.Reason {
		case "ErrImagePull", "ImagePullBackOff":
			return &Diagnosis{Category: ImagePullError, Words: ofContainer(c, c.State.Waiting.Message)}
		case "CrashLoopBackOff":
			return &Diagnosis{Category: CrashLoop, Words: ofContainer(c, c.State.Waiting.Message+lastEnd(c))}
		}
	}
	return nil
}

func terminated(_ *corev1.PodStatus, containers []corev1.ContainerStatus) *Diagnosis {
	for _, c := range containers {
		if c.State.Terminated == nil {
			continue
		}
		switch c.State.Terminated.Reason {
		case "OOMKilled":
			return &Diagnosis{Category: OOMKilled, Words: ofContainer(c, "it was killed for using more memory than its limit")}
		case "Evicted":
			return &Diagnosis{Category: Evicted, Words: ofContainer(c, c.State.Terminated.Message)}
		}
	}
	return nil
}

func unschedulable(status *corev1.PodStatus, _ []corev1.ContainerStatus) *Diagnosis {
	for _, c := range status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable {
			return &Diagnosis{Category: unschedulableFor(strings.ToLower(c.Message)), Words: c.Message}
		}
	}
	return nil
}

// unschedulableFor reads the scheduler's message, as only that tells the cause.
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

func evicted(status *corev1.PodStatus, _ []corev1.ContainerStatus) *Diagnosis {
	if status.Reason != "Evicted" {
		return nil
	}
	return &Diagnosis{Category: Evicted, Words: status.Message}
}

func misconfigured(_ *corev1.PodStatus, containers []corev1.ContainerStatus) *Diagnosis {
	for _, c := range containers {
		if c.State.Waiting == nil {
			continue
		}
		switch c.State.Waiting.Reason {
		case "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "InvalidImageName", "ErrImageNeverPull":
			return &Diagnosis{Category: ConfigError, Words: ofContainer(c, c.State.Waiting.Message)}
		}
	}
	return nil
}

func exited(_ *corev1.PodStatus, containers []corev1.ContainerStatus) *Diagnosis {
	for _, c := range containers {
		for _, end := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if end != nil && end.ExitCode != 0 {
				return &Diagnosis{Category: Exited, Words: ofContainer(c, ending(end))}
			}
		}
	}
	return nil
}

// lastEnd tells how a container that is to be started again has ended.
func lastEnd(c corev1.ContainerStatus) string {
	if end := c.LastTerminationState.Terminated; end != nil {
		return " (" + ending(end) + ")"
	}
	return ""
}

func ending(end *corev1.ContainerStateTerminated) string {
	return strings.TrimSpace(fmt.Sprintf("exit code %d %s %s", end.ExitCode, end.Reason, end.Message))
}

func ofContainer(c corev1.ContainerStatus, words string) string {
	reason := ""
	if c.State.Waiting != nil {
		reason = c.State.Waiting.Reason + ": "
	}
	return strings.TrimSpace("container " + cmp.Or(c.Name, "without a name") + ": " + reason + words)
}
