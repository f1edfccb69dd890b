package kube

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Category names a diagnosis as prefect-kubernetes 0.8.0 does (diagnostics.py), so
// that automations match either's.
type Category string

const (
	ImagePullError Category = "ImagePullError"
	CrashLoop      Category = "CrashLoopBackOff"
	OOMKilled      Category = "OOMKilled"
	Evicted        Category = "Evicted"
	Unschedulable  Category = "Unschedulable"
	Exited         Category = "Exited" // a container ended with a code; the Python worker has no name for it
)

// PodStatus is what a Job's pod says of itself.
type PodStatus struct {
	Name      string
	Container string   // the one that the diagnosis is about; "" if it is about the pod
	Category  Category // "": nothing is wrong, as far as can be seen
	Summary   string
}

// JobPods reads the pods of a Job, the newest last.
func (c *Client) JobPods(ctx context.Context, namespace, job string) ([]PodStatus, error) {
	var list corev1.PodList
	req := c.core.Get().Namespace(namespace).Resource("pods").Param("labelSelector", "job-name="+job).Param("limit", "50")
	if _, err := c.do(ctx, "list the pods of Job "+namespace+"/"+job, req, &list); err != nil {
		return nil, err
	}
	pods := make([]PodStatus, 0, len(list.Items))
	for i := range list.Items {
		pods = append(pods, diagnose(&list.Items[i]))
	}
	return pods, nil
}

// diagnose finds the first thing that is wrong with a pod.
func diagnose(pod *corev1.Pod) PodStatus {
	s := PodStatus{Name: pod.Name}
	if pod.Status.Reason == "Evicted" {
		s.Category, s.Summary = Evicted, pod.Status.Message
		return s
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if category, summary := diagnoseContainer(&list[i]); category != "" {
				s.Container, s.Category, s.Summary = list[i].Name, category, summary
				return s
			}
		}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Reason == corev1.PodReasonUnschedulable {
			s.Category, s.Summary = Unschedulable, condition.Message
		}
	}
	return s
}

func diagnoseContainer(c *corev1.ContainerStatus) (Category, string) {
	if waiting := c.State.Waiting; waiting != nil {
		switch waiting.Reason {
		case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull":
			return ImagePullError, waiting.Reason + ": " + waiting.Message
		case "CrashLoopBackOff":
			return CrashLoop, waiting.Message
		}
	}
	for _, ended := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
		switch {
		case ended == nil:
		case ended.Reason == "OOMKilled":
			return OOMKilled, "the container was killed for using more memory than its limit"
		case ended.ExitCode != 0:
			return Exited, strings.TrimSpace(fmt.Sprintf("exit code %d %s %s", ended.ExitCode, ended.Reason, ended.Message))
		}
	}
	return "", ""
}

// PodLog reads the last lines of a container's log; container "" is its only one.
func (c *Client) PodLog(ctx context.Context, namespace, pod, container string, lines int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req := c.core.Get().Namespace(namespace).Resource("pods").Name(pod).SubResource("log").
		Param("tailLines", fmt.Sprint(lines)).Param("limitBytes", fmt.Sprint(1<<20))
	if container != "" {
		req = req.Param("container", container)
	}
	raw, err := req.MaxRetries(0).DoRaw(ctx)
	if err != nil {
		return "", classify("read the log of pod "+namespace+"/"+pod, err, true)
	}
	return string(raw), nil
}
