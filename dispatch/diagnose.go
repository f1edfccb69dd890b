package dispatch

import (
	"context"
	"fmt"
	"strings"

	"slipway/kube"
)

// lastEvents are those of a crashed pod that go into the run's log.
const lastEvents = 20

// autopsy is what a crashed Job's pods leave to be known, gathered before the
// Job's time to live takes them away.
type autopsy struct {
	words string   // for the state's message
	lines []string // for the run's log
	pods  []kube.PodStatus
}

// diagnose says why a Job failed, as far as the cluster tells. Best effort: the
// run is over anyway.
func (s *sweep) diagnose(ctx context.Context, job *kube.JobStatus) autopsy {
	var a autopsy
	if job == nil {
		return a
	}
	if job.Reason != "" {
		a.words = ": " + strings.TrimSpace(job.Reason+" "+job.Message)
	}
	pods, err := s.Kube.Pods(ctx, job.Namespace, []string{job.Name})
	if err != nil {
		s.miss(err, "what its pods say is lost")
		return a
	}
	a.pods = pods
	var last *kube.PodStatus
	for i := range pods {
		if d := pods[i].Diagnosis; d != nil {
			a.words += "; pod " + pods[i].Name + ": " + d.String()
		}
		if pods[i].Phase != "Succeeded" {
			last = &pods[i]
		}
	}
	switch {
	case last != nil:
		a.lines = s.lastWords(ctx, last)
	case len(pods) == 0:
		if d, err := s.podless(ctx, job); err == nil && d != nil {
			a.words += "; it got no pod: " + d.String()
		}
	}
	return a
}

// lastWords are a pod's conditions, its events, and the end of its log.
func (s *sweep) lastWords(ctx context.Context, pod *kube.PodStatus) []string {
	var lines []string
	if pod.Conditions != "" {
		lines = append(lines, "Conditions of pod "+pod.Name+": "+pod.Conditions)
	}
	if events, err := s.Kube.Events(ctx, pod.Namespace, "Pod", pod.Name); err != nil {
		s.miss(err, "they are lost")
	} else if len(events) > 0 {
		text := "Events of pod " + pod.Name + ":"
		for _, e := range events[max(0, len(events)-lastEvents):] {
			text += "\n" + e.String()
		}
		lines = append(lines, text)
	}
	if !s.CrashLogs || s.CrashLogLines == 0 {
		return lines
	}
	for _, containers := range [][]string{pod.Main, pod.Others} {
		found := false
		for _, container := range containers {
			if log := s.lastLog(ctx, pod, container); log != "" {
				lines = append(lines, fmt.Sprintf("The last lines of container %s in pod %s:\n%s", container, pod.Name, log))
				found = true
			}
		}
		if found {
			break
		}
	}
	return lines
}

// lastLog is the end of a container's log: of the one before the last restart, if
// there is one, as that has crashed.
func (s *sweep) lastLog(ctx context.Context, pod *kube.PodStatus, container string) string {
	if pod.Restarts > 0 {
		if log, err := s.Kube.PodLog(ctx, pod.Namespace, pod.Name, container, s.CrashLogLines, true); err == nil && strings.TrimSpace(log) != "" {
			return strings.TrimSpace(log)
		}
	}
	log, err := s.Kube.PodLog(ctx, pod.Namespace, pod.Name, container, s.CrashLogLines, false)
	if err != nil {
		s.miss(err, "its last lines are lost")
		return ""
	}
	return strings.TrimSpace(log)
}

// miss warns of what could not be learned.
func (s *sweep) miss(err error, consequence string) {
	s.report.Warnings = append(s.report.Warnings, s.plain(err)+"; "+consequence)
}
