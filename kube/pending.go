package kube

import (
	"context"
	"slices"
	"strings"
	"time"
)

// DiagnosePending says what keeps a pod from starting: the diagnosis of its status,
// or else, for a pod in phase Pending, what its events say. It returns nil if
// nothing does, and an error if the events cannot be read.
func (c *Client) DiagnosePending(ctx context.Context, pod PodStatus) (*Diagnosis, error) {
	if pod.Diagnosis != nil || pod.Phase != "Pending" {
		return pod.Diagnosis, nil
	}
	events, err := c.eventsOf(ctx, pod.Namespace, "Pod", pod.Name, pod.UID)
	if err != nil {
		return nil, err
	}
	d := DiagnoseEvents(events)
	if d != nil {
		d.Since = latest(d.Since, pod.Created)
	}
	return d, nil
}

// DiagnosePodless says why a Job has no pod, from the Job's events. It returns nil
// if no event says why, as for a suspended Job, and an error if the events cannot be
// read.
func (c *Client) DiagnosePodless(ctx context.Context, job *Job) (*Diagnosis, error) {
	if job.Suspended {
		return nil, nil
	}
	events, err := c.eventsOf(ctx, job.Namespace, "Job", job.Name, job.UID)
	if err != nil {
		return nil, err
	}
	d := fromWarnings(after(events, "SuccessfulCreate"), func(e Event) Category {
		switch {
		case e.Reason != "FailedCreate":
			return ""
		case isAboutQuota(e.Message):
			return QuotaExceeded
		}
		return PodsRefused
	})
	if d != nil {
		d.Since = latest(d.Since, job.Created, job.Started)
	}
	return d, nil
}

// DiagnoseEvents says from the events of a Pending pod, sorted by Last, what keeps
// it from starting; nil if nothing does. The newest warning decides, and Since is
// from the earliest one of the same category. Warnings of what the pod has got past
// since do not count: it was scheduled, or it pulled an image, later.
func DiagnoseEvents(events []Event) *Diagnosis {
	scheduled := lastTime(events, "Scheduled")
	events = slices.DeleteFunc(after(events, "Scheduled", "Pulling", "Pulled", "Created", "Started"), func(e Event) bool {
		// Events have whole seconds: the pod may be scheduled in the same one.
		return e.Reason == "FailedScheduling" && !e.Last.After(scheduled)
	})
	return fromWarnings(events, pendingCategory)
}

// harmless are the reasons of warnings that do not keep a pod from starting
// (Kubernetes 1.36, pkg/kubelet).
var harmless = []string{
	"AlreadyMountedVolume", "CgroupV1", "CheckLimitsForResolvConf", "DNSConfigForming", "FailedToRetrieveImagePullSecret",
	"HostIPsIPFamilyMismatch", "MissingClusterDNS", "PossibleMemoryBackedVolumesOnDisk", "VolumeConditionAbnormal",
}

func pendingCategory(e Event) Category {
	switch e.Reason {
	case "FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedMountOnFilesystemMismatch":
		return VolumeNotReady
	case "FailedCreatePodSandBox", "FailedPodSandBoxStatus", "NetworkNotReady":
		return SandboxNotCreated
	}
	if slices.Contains(harmless, e.Reason) {
		return ""
	}
	return NotStarting
}

// mountSummary begins the kubelet's summary of volumes that it waits for. It says
// less than the FailedMount events of the volumes, and alternates with them.
const mountSummary = "Unable to attach or mount volumes: "

// fromWarnings makes a diagnosis of the newest warning that has a category; "" is
// none.
func fromWarnings(events []Event, category func(Event) Category) *Diagnosis {
	var d *Diagnosis
	for _, e := range slices.Backward(events) {
		found := Category("")
		if e.Warning {
			found = category(e)
		}
		switch {
		case found == "" || d != nil && found != d.Category:
			continue
		case d == nil:
			d = &Diagnosis{Category: found, Words: wordsOf(e), Advice: adviceByCategory[found], Since: e.First}
		case strings.HasPrefix(d.Words, mountSummary):
			d.Words = wordsOf(e)
		}
		if !e.First.IsZero() && e.First.Before(d.Since) {
			d.Since = e.First
		}
	}
	return d
}

// wordsOf leaves out what the API machinery puts before the message of an event that
// stands for several.
func wordsOf(e Event) string {
	return strings.TrimSpace(strings.TrimPrefix(e.Message, "(combined from similar events): "))
}

// after returns the events that did not end before the last one with one of these
// reasons.
func after(events []Event, reasons ...string) []Event {
	last := lastTime(events, reasons...)
	var newer []Event
	for _, e := range events {
		if !e.Last.Before(last) {
			newer = append(newer, e)
		}
	}
	return newer
}

func lastTime(events []Event, reasons ...string) time.Time {
	var last time.Time
	for _, e := range events {
		if slices.Contains(reasons, e.Reason) {
			last = latest(last, e.Last)
		}
	}
	return last
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}
