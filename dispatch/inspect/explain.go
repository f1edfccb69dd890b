package inspect

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/dispatch/sweep"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/prefect"
)

// Explanation says why a flow run has not started, from live reads.
type Explanation struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	State   string   `json:"state"` // its name
	Since   string   `json:"since,omitempty"`
	Pool    string   `json:"work_pool,omitempty"`
	Reasons []string `json:"reasons"` // the likeliest first
}

// explainer gathers reasons; what is found first is likeliest.
type explainer struct {
	servers *workpool.Servers
	session *workpool.Session
	run     *prefect.FlowRun
	reasons []string
}

func (e *explainer) because(format string, args ...any) {
	e.reasons = append(e.reasons, e.servers.Options.Redactor.Text(fmt.Sprintf(format, args...)))
}

// Explain reads what a flow run waits for. What a sweep would do about it, it asks the
// sweep's own decision. Errors are *workpool.Error.
func Explain(ctx context.Context, servers *workpool.Servers, id string) (*Explanation, error) {
	run, err := servers.Options.Prefect.FlowRun(ctx, id)
	if err != nil {
		return nil, workpool.NotFoundOr(ctx, err, "flow run "+id)
	}
	e := &explainer{servers: servers, session: servers.Unopened(run.WorkPoolName), run: run}
	engineRetry := run.WaitsForEngine()
	switch {
	case run.StateType == "SCHEDULED" && !engineRetry:
		e.scheduled(ctx)
	case run.StateType == "SCHEDULED":
		e.because("its own engine tries it again, in the pod that it has; no pass claims it")
		e.notDue("its next try is at %s, in %s")
		e.claimed(ctx)
	case run.StateType == "RUNNING":
		e.because("it has started")
		e.claimed(ctx)
	case run.StateType == "PENDING", run.StateType == "CANCELLING":
		e.claimed(ctx)
	case run.StateType == "PAUSED":
		e.because("it is paused: resume it in the UI")
	default:
		e.because("it is over: %s", run.StateName)
		if run.State != nil && run.State.Message != "" {
			e.because("%s", run.State.Message)
		}
	}
	x := &Explanation{ID: run.ID, Name: run.Name, State: run.StateName, Pool: run.WorkPoolName, Reasons: e.reasons}
	if run.State != nil {
		x.Since = run.State.Timestamp.UTC().Format(time.RFC3339)
	}
	return x, nil
}

// scheduled goes through what keeps a run from being claimed.
func (e *explainer) scheduled(ctx context.Context) {
	if e.run.WorkPoolName == "" {
		e.because("it belongs to no work pool: give its deployment one, and delete it")
		return
	}
	if !strings.HasPrefix(e.run.StateName, "Awaiting") {
		e.notDue("it is due at %s, in %s; passes claim it up to SLIPWAY_LOOK_AHEAD earlier")
	}
	e.poolHolds(ctx)
	e.queueHolds(ctx)
	e.deploymentHolds(ctx)
	e.formerAttempt(ctx)
	if s := e.run.State; s != nil && s.Name == "AwaitingRetry" && s.Message != "" {
		e.because("its last attempt was given back: %s", s.Message)
	}
	if strings.HasPrefix(e.run.StateName, "Awaiting") {
		e.notDue("its next try is at %s, in %s")
	}
	e.heartbeats(ctx)
	if len(e.reasons) == 0 {
		e.because("nothing holds it back: the next pass claims it")
	}
}

func (e *explainer) notDue(format string) {
	at := e.run.NextScheduledStartTime
	if at == nil || !at.After(e.session.ServerNow()) {
		return
	}
	e.because(format, at.UTC().Format(time.RFC3339), at.Sub(e.session.ServerNow()).Round(time.Second))
}

// decisions are those of the sweep on the run; false if they are not known.
func (e *explainer) decisions(ctx context.Context) (sweep.World, []sweep.Decision, bool) {
	session, err := e.servers.Open(ctx, e.run.WorkPoolName)
	if err == nil {
		err = session.NameCluster(ctx)
	}
	if err != nil {
		e.because("its work pool or the cluster cannot be asked: %v", err)
		return sweep.World{}, nil, false
	}
	e.session = session
	world, _, err := sweep.Look(ctx, session, e.run.ID, e.places(ctx))
	if err != nil {
		e.because("its Jobs cannot be read: %v", err)
		return world, nil, false
	}
	return world, sweep.Decide(&world, session.ServerNow(), sweep.GracesOf(session.Options)), true
}

// places are where Jobs of the run are, by a list, or as far as its claims say.
func (e *explainer) places(ctx context.Context) []claim.Place {
	var places []claim.Place
	list := kube.JobList{LabelSelector: claim.LabelFlowRun + "=" + e.run.ID, FieldSelector: kube.NotSucceeded}
	err := e.session.Kube.EachJob(ctx, list, func(job *kube.Job) {
		places = append(places, claim.Place{Namespace: job.Namespace, Name: job.Name})
	})
	if err == nil {
		return places
	}
	states, err := e.session.Prefect.FlowRunStates(ctx, e.run.ID)
	if err != nil {
		return nil // the look says what cannot be read
	}
	for _, state := range states {
		if place := claim.PlaceOf(state.Message, state.Details.TransitionID); place.Known() {
			places = append(places, place)
		}
	}
	return places
}

// formerAttempt tells of Jobs that keep another attempt from being claimed.
func (e *explainer) formerAttempt(ctx context.Context) {
	if !claim.ParsePID(e.run.InfrastructurePID).Known() {
		return
	}
	world, decisions, known := e.decisions(ctx)
	if !known {
		return
	}
	for _, job := range append(world.Others, world.Job) {
		if !job.State.Live() {
			continue
		}
		what := "it ends by itself; to end it now: kubectl delete job -n " + job.Place.Namespace + " " + job.Place.Name
		for _, d := range decisions {
			if d.Action == report.DeleteJob && d.Job.UID == job.UID {
				what = "the next sweep deletes it"
			}
		}
		e.because("Job %s of its earlier attempt is still active: %s", job.Place, what)
	}
}

// claimed says what the sweep would do, and then what the run's Job and pod do.
func (e *explainer) claimed(ctx context.Context) {
	world, decisions, known := e.decisions(ctx)
	if !known {
		return
	}
	if world.Stuck != nil {
		e.because("%s does not start: %s", e.newestPod(ctx, world.Job.Place), world.Stuck.Text())
	} else if world.Job.State == sweep.Active && world.State == "PENDING" {
		e.pods(ctx, world.Job.Place)
	}
	for _, d := range decisions {
		if d.Action != report.Tell { // said above
			e.decided(d)
		}
	}
	if !world.ClaimedAt.IsZero() {
		e.because("claimed by %s, %s ago", world.Owner, e.session.ServerNow().Sub(world.ClaimedAt).Round(time.Second))
	}
}

// newestPod names that of a Job, for a sentence.
func (e *explainer) newestPod(ctx context.Context, place claim.Place) string {
	if pods, err := e.session.Kube.Pods(ctx, place.Namespace, []string{place.Name}); err == nil && len(pods) > 0 {
		pod := pods[len(pods)-1]
		return "its pod " + pod.Namespace + "/" + pod.Name
	}
	return "its Job " + place.String() + " gets no pod, and"
}

// nextSweep says what a sweep does, by action.
var nextSweep = map[report.Action]string{
	report.Crash:     "the next sweep makes it CRASHED: ",
	report.CreateJob: "the next sweep makes its Job: ",
	report.PutBack:   "the next sweep puts it back to its former state: ",
	report.GiveBack:  "the next sweep gives it back to the work pool: ",
	report.Cancel:    "the next sweep makes it CANCELLED: ",
	report.DeleteJob: "the next sweep deletes its Job: ",
	report.WritePID:  "the next sweep writes where its Job is: ",
}

func (e *explainer) decided(d sweep.Decision) {
	where := ""
	if d.Job.State.Live() || d.Job.State == sweep.Failed || d.Job.State == sweep.Complete {
		where = " (Job " + d.Job.Place.String() + ")"
	}
	e.because("%s%s%s", nextSweep[d.Action], d.Reason, where)
}

// pods tells of the newest pod of a Job that is well so far.
func (e *explainer) pods(ctx context.Context, place claim.Place) {
	pods, err := e.session.Kube.Pods(ctx, place.Namespace, []string{place.Name})
	switch {
	case err != nil:
		e.because("its Job %s is active, and its pods cannot be read: %v", place, err)
		return
	case len(pods) == 0:
		e.because("its Job %s is made, and has no pod yet", place)
		return
	}
	pod := pods[len(pods)-1]
	var due time.Time
	if s := e.run.State; s != nil && s.Details.ScheduledTime != nil {
		due = *s.Details.ScheduledTime
	}
	if due.After(e.session.ServerNow()) {
		e.because("it was claimed ahead: its pod %s/%s waits until it is due at %s", pod.Namespace, pod.Name, due.UTC().Format(time.RFC3339))
		return
	}
	e.because("its pod %s/%s is %s since %s, and its flow has not reported yet", pod.Namespace, pod.Name, pod.Phase, pod.Since.UTC().Format(time.RFC3339))
}
