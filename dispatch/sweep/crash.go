package sweep

import (
	"context"
	"fmt"
	"strings"

	"slipway/dispatch/claim"
	"slipway/dispatch/workpool"
	"slipway/kube"
)

// maxEvents are those of a crashed pod that go into the run's log.
const maxEvents = 20

// podDiagnostics are what a crashed Job's pods leave to be known, gathered before the
// Job's time to live takes them away.
type podDiagnostics struct {
	summary string   // for the state's message
	lines   []string // for the run's log
	pods    []kube.PodStatus
}

// crash ends a run, and tells what is known only if the server took that.
func (a *application) crash(ctx context.Context) applied {
	found := a.diagnose(ctx)
	message := "Slipway: " + a.decision.Reason + found.summary
	if !a.stands(ctx) {
		return movedOn
	}
	change := workpool.Change{Type: "CRASHED", Name: "Crashed", Message: a.session().Options.Redactor.Text(message)}
	out := a.propose(ctx, change)
	if out.done {
		for _, line := range append([]string{message}, found.lines...) {
			a.session().Tell(ctx, a.run.ID, workpool.LevelError, line)
		}
		a.sweep.noteEvents(ctx, found.pods)
	}
	return out
}

// stands looks at the run and its Job once more, after the time that the diagnosis has
// taken: the decision must be the same.
func (a *application) stands(ctx context.Context) bool {
	var places []claim.Place
	for _, job := range a.world.jobs() {
		if job.Place.Known() {
			places = append(places, job.Place)
		}
	}
	world, run, err := Look(ctx, a.session(), a.world.RunID, places)
	if err != nil || run == nil || run.StateID != a.run.StateID {
		return false
	}
	for _, d := range Decide(&world, a.session().ServerNow(), GracesOf(a.session().Options)) {
		if d.Action == a.decision.Action {
			return true
		}
	}
	return false
}

// diagnose says why a Job failed, as far as the cluster tells. Best effort: the run
// is over anyway.
func (a *application) diagnose(ctx context.Context) podDiagnostics {
	var d podDiagnostics
	job := a.world.Job
	if job.State == Absent || !job.Place.Known() {
		return d
	}
	if job.Reason != "" {
		d.summary = ": " + job.Reason
	}
	pods, err := a.session().Kube.Pods(ctx, job.Place.Namespace, []string{job.Place.Name})
	if err != nil {
		a.sweep.miss(err, "what its pods say is lost")
		return d
	}
	d.pods = pods
	var last *kube.PodStatus
	for i := range pods {
		if diagnosis := pods[i].Diagnosis; diagnosis != nil && a.world.Stuck == nil {
			d.summary += "; pod " + pods[i].Name + ": " + diagnosis.String()
		}
		if pods[i].Phase != "Succeeded" {
			last = &pods[i]
		}
	}
	switch {
	case last != nil:
		d.lines = a.podReport(ctx, last)
	case len(pods) == 0 && a.world.Stuck == nil:
		d.summary += a.podless(ctx)
	}
	return d
}

// podless says why a Job got no pod, if its events tell.
func (a *application) podless(ctx context.Context) string {
	place := a.world.Job.Place
	job, err := a.session().Kube.Job(ctx, place.Namespace, place.Name)
	if err != nil {
		return ""
	}
	if d, err := a.session().Kube.DiagnosePodless(ctx, job); err == nil && d != nil {
		return "; it got no pod: " + d.String()
	}
	return ""
}

// podReport is a pod's conditions, its events, and the end of its log.
func (a *application) podReport(ctx context.Context, pod *kube.PodStatus) []string {
	var lines []string
	if pod.Conditions != "" {
		lines = append(lines, "Conditions of pod "+pod.Name+": "+pod.Conditions)
	}
	if events, err := a.session().Kube.Events(ctx, pod.Namespace, "Pod", pod.Name); err != nil {
		a.sweep.miss(err, "they are lost")
	} else if len(events) > 0 {
		text := "Events of pod " + pod.Name + ":"
		for _, e := range events[max(0, len(events)-maxEvents):] {
			text += "\n" + e.String()
		}
		lines = append(lines, text)
	}
	options := a.session().Options
	if !options.CrashLogs || options.CrashLogLines == 0 {
		return lines
	}
	for _, containers := range [][]string{pod.Main, pod.Others} {
		before := len(lines)
		for _, container := range containers {
			if log := a.lastLines(ctx, pod, container); log != "" {
				lines = append(lines, fmt.Sprintf("The last lines of container %s in pod %s:\n%s", container, pod.Name, log))
			}
		}
		if len(lines) > before {
			break
		}
	}
	return lines
}

// lastLines are the end of a container's log: of the one before the last restart, if
// there is one, as that has crashed.
func (a *application) lastLines(ctx context.Context, pod *kube.PodStatus, container string) string {
	client, limit := a.session().Kube, a.session().Options.CrashLogLines
	if pod.Restarts > 0 {
		if log, err := client.PodLog(ctx, pod.Namespace, pod.Name, container, limit, true); err == nil && strings.TrimSpace(log) != "" {
			return strings.TrimSpace(log)
		}
	}
	log, err := client.PodLog(ctx, pod.Namespace, pod.Name, container, limit, false)
	if err != nil {
		a.sweep.miss(err, "its last lines are lost")
		return ""
	}
	return strings.TrimSpace(log)
}
