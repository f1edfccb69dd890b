package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// PodStatus is what a Job's pod says of itself.
type PodStatus struct {
	Namespace  string
	Name       string
	UID        string
	Job        string // the name of its Job
	Labels     map[string]string
	Phase      string // Pending, Running, Succeeded, Failed, Unknown
	Restarts   int    // of its containers, without init containers
	Created    time.Time
	Since      time.Time  // of its phase, where its containers tell; else zero
	EndReason  string     // of the first container that has ended; "": none has
	Conditions string     // in a line; "": it has none
	Diagnosis  *Diagnosis // nil: nothing is wrong, as far as can be seen

	// Those whose logs tell why it failed: the flow's, and, should that be empty,
	// the others (the rule of prefect-kubernetes 0.8.0, observer.py).
	Main, Others []string
}

// jobsAPage bounds the length of a label selector.
const jobsAPage = 50

// Pods reads the pods of Jobs of a namespace, by Job and the oldest first.
func (c *Client) Pods(ctx context.Context, namespace string, jobs []string) ([]PodStatus, error) {
	var pods []PodStatus
	for some := range slices.Chunk(jobs, jobsAPage) {
		var list corev1.PodList
		req := c.core.Get().Namespace(namespace).Resource("pods").Param("labelSelector", "job-name in ("+strings.Join(some, ",")+")")
		if _, err := c.do(ctx, "list the pods of Jobs in namespace "+namespace, req, &list); err != nil {
			return nil, err
		}
		for i := range list.Items {
			pods = append(pods, podStatus(&list.Items[i]))
		}
	}
	slices.SortStableFunc(pods, func(a, b PodStatus) int {
		return cmp.Or(cmp.Compare(a.Job, b.Job), a.Created.Compare(b.Created))
	})
	return pods, nil
}

func podStatus(pod *corev1.Pod) PodStatus {
	s := PodStatus{
		Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Job: pod.Labels["job-name"], Labels: pod.Labels,
		Phase: string(pod.Status.Phase), Created: pod.CreationTimestamp.Time, Diagnosis: diagnose(&pod.Status),
	}
	for _, container := range pod.Status.ContainerStatuses {
		s.Restarts += int(container.RestartCount)
		if end := container.State.Terminated; end != nil {
			s.EndReason = cmp.Or(s.EndReason, end.Reason)
		}
	}
	var conditions []string
	for _, c := range pod.Status.Conditions {
		text := string(c.Type) + "=" + string(c.Status)
		if c.Reason != "" {
			text += " (" + strings.TrimSpace(c.Reason+" "+c.Message) + ")"
		}
		conditions = append(conditions, text)
	}
	s.Conditions = strings.Join(conditions, ", ")
	s.Since = phaseSince(pod)
	s.Main, s.Others = logOrder(&pod.Spec)
	return s
}

// phaseSince is when a pod came into its phase; zero if nothing tells.
func phaseSince(pod *corev1.Pod) time.Time {
	var latest time.Time
	see := func(t time.Time) {
		if t.After(latest) {
			latest = t
		}
	}
	switch pod.Status.Phase {
	case corev1.PodPending:
		see(pod.CreationTimestamp.Time)
	case corev1.PodRunning:
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Running != nil {
				see(c.State.Running.StartedAt.Time)
			}
		}
		if latest.IsZero() && pod.Status.StartTime != nil {
			see(pod.Status.StartTime.Time)
		}
	case corev1.PodSucceeded, corev1.PodFailed:
		for _, c := range append(slices.Clone(pod.Status.InitContainerStatuses), pod.Status.ContainerStatuses...) {
			if c.State.Terminated != nil {
				see(c.State.Terminated.FinishedAt.Time)
			}
		}
	}
	return latest
}

// flowContainer is the one that the default base job template has.
const flowContainer = "prefect-job"

func logOrder(spec *corev1.PodSpec) (first, others []string) {
	for _, c := range spec.InitContainers {
		others = append(others, c.Name)
	}
	for _, c := range spec.Containers {
		if len(spec.Containers) == 1 || c.Name == flowContainer {
			first = append(first, c.Name)
		} else {
			others = append(others, c.Name)
		}
	}
	return first, others
}

// PodLog reads the last lines of a container's log; previous asks for that of the
// container before its last restart.
func (c *Client) PodLog(ctx context.Context, namespace, pod, container string, lines int, previous bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req := c.core.Get().Namespace(namespace).Resource("pods").Name(pod).SubResource("log").
		Param("tailLines", fmt.Sprint(lines)).Param("limitBytes", fmt.Sprint(1<<20)).Param("container", container)
	if previous {
		req = req.Param("previous", "true")
	}
	raw, err := req.MaxRetries(0).DoRaw(ctx)
	if err != nil {
		return "", classify("read the log of pod "+namespace+"/"+pod, err, true)
	}
	return string(raw), nil
}
