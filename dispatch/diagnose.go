package dispatch

import (
	"context"
	"errors"
	"strings"
	"time"

	"slipway/kube"
	"slipway/render"
)

// lastLines are those of a crashed pod's log that go into the run's log, before
// the Job's time to live takes them away.
const lastLines = 500

// diagnose says why a Job failed, as far as its pods tell, and copies the end of
// their log. "" if there is nothing to say. Best effort: the run is over anyway.
func (s *sweep) diagnose(ctx context.Context, job *kube.JobStatus) string {
	if job == nil {
		return ""
	}
	var text strings.Builder
	if job.Reason != "" {
		text.WriteString(": " + strings.TrimSpace(job.Reason+" "+job.Message))
	}
	pods, err := s.Kube.JobPods(ctx, job.Namespace, job.Name)
	if err != nil {
		s.report.Warnings = append(s.report.Warnings, s.plain(err)+"; its pods' words are lost")
		return text.String()
	}
	for _, pod := range pods {
		if pod.Category != "" {
			text.WriteString("; pod " + pod.Name + ": " + string(pod.Category) + ": " + strings.TrimSpace(pod.Summary))
		}
	}
	if len(pods) > 0 {
		s.copyLog(ctx, job, pods[len(pods)-1])
	}
	return text.String()
}

func (s *sweep) copyLog(ctx context.Context, job *kube.JobStatus, pod kube.PodStatus) {
	log, err := s.Kube.PodLog(ctx, job.Namespace, pod.Name, pod.Container, lastLines)
	if err != nil {
		s.report.Warnings = append(s.report.Warnings, s.plain(err)+"; its last lines are lost")
		return
	}
	f := &flight{pass: s.pass}
	f.run.ID = job.Labels[labelRun]
	if log = strings.TrimSpace(log); log != "" {
		f.tell(levelError, "The last lines of pod "+pod.Name+":\n"+log)
	}
}

func asFault(err error, fault **render.Fault) bool { return errors.As(err, fault) }

// stampOf spells a time for the Prefect API.
func stampOf(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
