package kube

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// PodStatus is what Slipway needs to know of a Job's pod.
type PodStatus struct {
	Namespace  string
	Name       string
	UID        string
	Job        string // the name of its Job
	Labels     map[string]string
	Phase      string // Pending, Running, Succeeded, Failed, Unknown
	Started    bool   // one of its containers, init or main, runs or has ever run
	Restarts   int    // of its main containers
	Created    time.Time
	Since      time.Time  // when it came into its phase; zero: its containers do not say
	EndReason  string     // of the first main container that has ended; "": none has
	Conditions string     // in one line; "": it has none
	Diagnosis  *Diagnosis // from its status alone; nil: nothing is wrong. See DiagnosePending

	// Main and Others are the containers whose logs say why the pod failed. Others
	// are read if the logs of Main are empty (the rule of prefect-kubernetes 0.8.0,
	// observer.py).
	Main, Others []string
}

// Pods reads the pods of Jobs of one namespace, sorted by Job, then the oldest
// first.
func (c *Client) Pods(ctx context.Context, namespace string, jobs []string) ([]PodStatus, error) {
	var pods []PodStatus
	for chunk := range slices.Chunk(jobs, jobsPerSelector) {
		request := func() *rest.Request {
			return withSelectors(c.core.Get().Namespace(namespace).Resource("pods"), "job-name in ("+strings.Join(chunk, ",")+")", "")
		}
		complete := len(pods)
		err := again(func() error {
			pods = pods[:complete]
			return eachItem(ctx, c, "list the pods of Jobs in namespace "+namespace, pageSize, request, statusOf,
				func(pod PodStatus) { pods = append(pods, pod) })
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(pods, func(a, b PodStatus) int {
		return cmp.Or(cmp.Compare(a.Job, b.Job), a.Created.Compare(b.Created))
	})
	return pods, nil
}

func statusOf(pod *podObject) PodStatus {
	s := PodStatus{
		Namespace: pod.Metadata.Namespace, Name: pod.Metadata.Name, UID: pod.Metadata.UID,
		Job: pod.Metadata.Labels["job-name"], Labels: pod.Metadata.Labels,
		Phase: string(pod.Status.Phase), Started: pod.hasStarted(), Created: pod.Metadata.CreationTimestamp.Time,
		Since: pod.phaseSince(), Conditions: conditionsText(pod), Diagnosis: diagnose(pod),
	}
	for _, container := range pod.Status.ContainerStatuses {
		s.Restarts += int(container.RestartCount)
		if end := container.State.Terminated; end != nil {
			s.EndReason = cmp.Or(s.EndReason, end.Reason)
		}
	}
	s.Main, s.Others = logOrder(pod)
	return s
}

func conditionsText(pod *podObject) string {
	var conditions []string
	for _, c := range pod.Status.Conditions {
		text := string(c.Type) + "=" + string(c.Status)
		if c.Reason != "" {
			text += " (" + strings.TrimSpace(c.Reason+" "+c.Message) + ")"
		}
		conditions = append(conditions, text)
	}
	return strings.Join(conditions, ", ")
}

// flowContainer is the container's name in the default base job template.
const flowContainer = "prefect-job"

// logOrder splits the containers into those whose logs are read first, and others.
func logOrder(pod *podObject) (first, others []string) {
	for _, c := range pod.Spec.InitContainers {
		others = append(others, c.Name)
	}
	for _, c := range pod.Spec.Containers {
		if len(pod.Spec.Containers) == 1 || c.Name == flowContainer {
			first = append(first, c.Name)
		} else {
			others = append(others, c.Name)
		}
	}
	return first, others
}

// PodLog reads the last lines of a container's log, at most 256 KiB; previous asks
// for the log of the container before its last restart.
func (c *Client) PodLog(ctx context.Context, namespace, pod, container string, lines int, previous bool) (string, error) {
	for {
		log, err := c.podLog(ctx, namespace, pod, container, lines, previous)
		// The kubelet cuts the end off, where the error is: ask for fewer lines.
		if err != nil || len(log) < maxLogBytes || lines <= 1 {
			return strings.ToValidUTF8(string(log), "\ufffd"), err
		}
		lines /= 2
	}
}

func (c *Client) podLog(ctx context.Context, namespace, pod, container string, lines int, previous bool) ([]byte, error) {
	req := c.core.Get().Namespace(namespace).Resource("pods").Name(pod).SubResource("log").
		Param("tailLines", fmt.Sprint(lines)).Param("limitBytes", fmt.Sprint(maxLogBytes)).Param("container", container)
	if previous {
		req = req.Param("previous", "true")
	}
	var log []byte
	_, err := c.send(ctx, "read the log of pod "+namespace+"/"+pod, req, func(body io.Reader) (err error) {
		log, err = io.ReadAll(io.LimitReader(body, maxLogBytes))
		return err
	})
	return log, err
}
