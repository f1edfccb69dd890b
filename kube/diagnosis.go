package kube

import (
	"strings"
	"time"
)

// Category names a diagnosis. The first ones are those of prefect-kubernetes 0.8.0
// (diagnostics.py), under the same conditions, so that an automation matches both.
type Category string

// Categories that the Python worker has too.
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

// Categories that the Python worker does not have.
const (
	Exited            Category = "Exited"            // a container ended with a code other than 0
	ConfigError       Category = "ConfigError"       // a container cannot be created from its spec
	VolumeNotReady    Category = "VolumeNotReady"    // a volume cannot be attached or mounted
	SandboxNotCreated Category = "SandboxNotCreated" // the pod gets no sandbox, for example no network
	NotStarting       Category = "NotStarting"       // another warning keeps the pod Pending
	QuotaExceeded     Category = "QuotaExceeded"     // a ResourceQuota refuses the Job's pods
	PodsRefused       Category = "PodsNotCreated"    // the Job's pods are refused for another reason
)

// Diagnosis is what is wrong with a pod, or with a Job that has no pod.
type Diagnosis struct {
	Category Category
	Words    string // the cluster's message, with the container that it is about
	Advice   string // what the user can do about it; ends with a full stop
	// Since is when this cause began to keep the pod from starting. It is never
	// before the pod's creation (of a Job without pods: the Job's start). Of a pod
	// that has ended it is the end.
	Since time.Time
}

// KnownToPrefect reports whether the observer of prefect-kubernetes 0.8.0 finds the
// same category. Only then it is part of a pod event's id. It is false for nil.
func (d *Diagnosis) KnownToPrefect() bool {
	if d == nil {
		return false
	}
	switch d.Category {
	case ImagePullError, CrashLoop, OOMKilled, Evicted, Unschedulable, InsufficientResources, NodeAffinity, Taint:
		return true
	}
	return false
}

// String is "Category: words".
func (d *Diagnosis) String() string { return string(d.Category) + ": " + d.Words }

// Text is "Category: words. Advice", as full sentences.
func (d *Diagnosis) Text() string {
	text := strings.TrimRight(d.String(), ": \n")
	if text != "" && !strings.ContainsAny(text[len(text)-1:], ".!?") {
		text += "."
	}
	return strings.TrimSpace(text + " " + d.Advice)
}

var adviceByCategory = map[Category]string{
	ImagePullError:        "Check the image's name and tag, and that image_pull_secrets let this namespace pull it.",
	CrashLoop:             "The container's log says why it ends; check its command, its environment and its volumes.",
	OOMKilled:             "Raise the container's memory limit, or make the flow need less memory.",
	Evicted:               "Its node ran short of memory, disk or process ids: request what the flow needs, or check the node.",
	Unschedulable:         "Compare the nodes' free resources, labels and taints with what the pod asks for.",
	InsufficientResources: "Request less, or add nodes.",
	NodeAffinity:          "No node has the labels that the pod's node selector or affinity asks for.",
	Taint:                 "Give the pod a toleration for the nodes' taints, or add nodes without them.",
	Exited:                "The container's log says why it ended.",
	ConfigError:           "Check the Secrets, ConfigMaps and the command that the container names.",
	VolumeNotReady:        "Check that the ConfigMaps, Secrets and PersistentVolumeClaims of the pod's volumes exist, and that its node can attach and mount them.",
	SandboxNotCreated:     "Check the network plug-in and the container runtime of the pod's node.",
	NotStarting:           "Check what the message names; kubectl describe pod shows all events of the pod.",
	QuotaExceeded:         "Raise the namespace's ResourceQuota, request less, or wait for other pods to end.",
	PodsRefused:           "Correct what the message names; the Job controller tries again by itself.",
}

// adviceByReason is for reasons of a waiting container that need other advice than
// the rest of their category.
var adviceByReason = map[string]string{
	"ErrImageNeverPull": "The image is not on the node, and imagePullPolicy Never forbids pulling it: load the image onto the node, or change the policy.",
	"InvalidImageName":  "Correct the image's name: it is not valid as [registry/]name[:tag], in lower case.",
}
