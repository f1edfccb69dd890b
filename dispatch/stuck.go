package dispatch

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"slipway/kube"
	"slipway/prefect"
)

// waitingRun is a PENDING run whose Job is there for a while.
type waitingRun struct {
	run *prefect.FlowRun
	job *kube.JobStatus
}

// mayWait notes a run whose pod should have started by now. A run that was
// claimed ahead waits too, in a pod that is well.
func (s *sweep) mayWait(run *prefect.FlowRun, job *kube.JobStatus) {
	if run.StateType == "PENDING" && s.minds(*job) && s.Now().Sub(job.Created) > s.SettleGrace {
		s.waiting = append(s.waiting, waitingRun{run, job})
	}
}

// judgeWaiting finds out what keeps the pods of waiting runs from starting.
func (s *sweep) judgeWaiting(ctx context.Context) {
	names := map[string][]string{}
	for _, w := range s.waiting {
		names[w.job.Namespace] = append(names[w.job.Namespace], w.job.Name)
	}
	pods := map[string]kube.PodStatus{} // the newest of each Job
	for namespace, jobs := range names {
		found, err := s.Kube.Pods(ctx, namespace, jobs)
		if err != nil {
			s.report.Warnings = append(s.report.Warnings, s.plain(err)+"; what keeps their flow runs waiting is not known")
			return
		}
		for _, pod := range found {
			pods[namespace+"/"+pod.Job] = pod
		}
	}
	for _, w := range s.waiting {
		pod, there := pods[w.job.Namespace+"/"+w.job.Name]
		s.judgeStart(ctx, w, pod, there)
	}
}

// judgeStart looks at one waiting run, and at its newest pod, if it has one.
func (s *sweep) judgeStart(ctx context.Context, w waitingRun, pod kube.PodStatus, there bool) {
	row := SweepRow{ID: w.run.ID, Name: w.run.Name, State: w.run.StateType}
	one := suspect{run: w.run, sure: true, stuckFor: s.Now().Sub(w.job.Created)}
	about := "Job " + w.job.Name
	var err error
	switch {
	case there:
		one.stuck, about = pod.Diagnosis, "Pod "+pod.Name
	case w.job.Podless:
		one.stuck, err = s.podless(ctx, w.job)
	}
	if err == nil && one.stuck != nil {
		if err = s.claimOf(ctx, &one, s.jobsOf(w.run.ID)); err == nil {
			err = s.adopt(ctx, &one, s.jobsOf(w.run.ID))
		}
	}
	if err != nil {
		s.report.Warnings = append(s.report.Warnings, fmt.Sprintf("flow run %s could not be judged: %s", w.run.ID, s.plain(err)))
		return
	}
	if one.stuck == nil || one.job == nil {
		return // counted with the active ones
	}
	if s.report.Looked--; !s.dry && s.tellOnce(ctx, &one, about) && there {
		s.noteEvents(ctx, []kube.PodStatus{pod})
	}
	s.mend(ctx, one, row)
}

// podless asks the Job's events why it gets no pod.
func (s *sweep) podless(ctx context.Context, job *kube.JobStatus) (*kube.Diagnosis, error) {
	events, err := s.Kube.Events(ctx, job.Namespace, "Job", job.Name)
	if err != nil {
		return nil, err
	}
	return kube.Podless(events), nil
}

// tellOnce writes what a pod waits for into its run's log, unless the last that
// was written of it says the same. The log is all the memory that there is.
func (s *sweep) tellOnce(ctx context.Context, one *suspect, about string) bool {
	message := s.redact(about + " does not start: " + one.stuck.String() + " " + one.stuck.Advice)
	lines, err := s.Prefect.Logs(ctx, one.run.ID)
	if err != nil {
		s.report.Warnings = append(s.report.Warnings, s.plain(err)+"; its log is not added to")
		return false
	}
	last := slices.IndexFunc(lines, func(l prefect.Log) bool {
		return l.Name == loggerName && strings.HasPrefix(l.Message, about+" does not start: ")
	})
	if last >= 0 && sameCause(lines[last].Message, message) {
		return false
	}
	s.flightOf(*one).tell(levelWarning, message)
	return true
}

// passing is what two tellings of one cause may differ in: the scheduler counts
// nodes, which come and go, and each pod that the Job controller tries to make has a
// name of its own.
var passing = regexp.MustCompile(`[0-9]+|pods "[^"]*"`)

// sameCause says whether two messages tell of one cause.
func sameCause(a, b string) bool {
	return passing.ReplaceAllString(a, "#") == passing.ReplaceAllString(b, "#")
}
