package sweep

import (
	"context"
	"slices"
	"strings"

	"slipway/dispatch/claim"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/prefect"
)

// look is the reading of one run and its Jobs.
type look struct {
	session *workpool.Session
	run     *prefect.FlowRun
	states  []prefect.State // its history, where that was needed
	found   map[claim.Place]*kube.Job
	world   World
}

// Look reads a flow run, and then its Jobs: those at the places given, and that of its
// current claim, wherever it is. The run is nil if it is deleted. An error means that
// the run could not be read.
func Look(ctx context.Context, session *workpool.Session, id string, places []claim.Place) (World, *prefect.FlowRun, error) {
	run, err := session.Prefect.FlowRun(ctx, id)
	if err != nil && !prefect.IsNotFound(err) {
		return World{}, nil, err
	}
	l := &look{session: session, run: run, found: map[claim.Place]*kube.Job{}, world: World{RunID: id, State: "DELETED"}}
	if err != nil {
		l.run = nil
		err = l.readJobs(ctx, places)
		return l.world, nil, err
	}
	l.readRun()
	if err := l.readClaim(ctx); err != nil {
		return World{}, nil, err
	}
	if former := l.world.PID; former.Known() && !slices.Contains(places, former) {
		places = append(slices.Clone(places), former)
	}
	if err := l.readJobs(ctx, places); err != nil {
		return World{}, nil, err
	}
	l.findJob(ctx)
	if err := l.readHistory(ctx); err != nil {
		return World{}, nil, err
	}
	l.adopt(ctx)
	l.readPods(ctx)
	return l.world, run, nil
}

// readRun keeps what the run says of itself.
func (l *look) readRun() {
	w, run := &l.world, l.run
	w.RunID, w.Name, w.State, w.Started = run.ID, run.Name, run.StateType, run.StartTime != nil
	if run.State != nil {
		w.Since = run.State.Timestamp
	}
	// The server keeps the word while the further try runs (3.8.8, 2.20.25).
	w.EngineRetry = run.EmpiricalPolicy.RetryType == "in_process" && run.StateType != "RUNNING"
	if run.NextScheduledStartTime != nil {
		w.RetryAt = *run.NextScheduledStartTime
	}
	w.PID = claim.ParsePID(run.InfrastructurePID)
}

// readClaim finds the newest state named exactly Pending: sub-states and the engine
// have put others in its place.
func (l *look) readClaim(ctx context.Context) error {
	state := l.run.State
	if over(l.world.State) || l.world.State == "PAUSED" {
		return nil // the claim does not matter any more
	}
	if state == nil || state.Type != "PENDING" || state.Name != "Pending" {
		states, err := l.session.Prefect.FlowRunStates(ctx, l.run.ID)
		if err != nil {
			return err
		}
		l.states = states
		state = newestClaim(states)
	}
	if state == nil {
		return nil
	}
	w := &l.world
	w.ClaimID, w.ClaimedAt, w.HasDue = state.Details.TransitionID, state.Timestamp, state.Details.ScheduledTime != nil
	w.Owner = ownerOf(l.session.Cluster, l.run.ID, w.ClaimID)
	w.Reported = w.PID.IsOf(w.ClaimID)
	w.Job.Place = claim.PlaceOf(state.Message, w.ClaimID)
	if w.Reported {
		w.Job.Place = w.PID
	}
	return nil
}

func newestClaim(states []prefect.State) *prefect.State {
	var newest *prefect.State
	for i, state := range states {
		if state.Type == "PENDING" && state.Name == "Pending" && (newest == nil || state.Timestamp.After(newest.Timestamp)) {
			newest = &states[i]
		}
	}
	return newest
}

// over tells whether a state type is terminal.
func over(state string) bool {
	return state == "COMPLETED" || state == "FAILED" || state == "CRASHED" || state == "CANCELLED"
}

// readHistory reads the run's states, unless that was done, where they decide: were the
// attempts of other Jobs over, and was the claim of an ended Job granted once?
func (l *look) readHistory(ctx context.Context) error {
	others := l.world.Others
	ended := l.world.State == "PENDING" && (l.world.Job.State == Complete || l.world.Job.State == Failed || l.world.Job.State == Absent)
	if len(others) == 0 && !ended || over(l.world.State) || l.states != nil {
		return nil
	}
	states, err := l.session.Prefect.FlowRunStates(ctx, l.run.ID)
	if err != nil {
		return err
	}
	l.states = states
	for i := range others {
		others[i].Superseded = l.superseded(others[i].ClaimID)
	}
	l.world.Twice = l.grants() > 1
	return nil
}

// grants counts the states that the current claim was granted.
func (l *look) grants() int {
	n := 0
	for _, state := range l.states {
		if state.Type == "PENDING" && state.Name == "Pending" && strings.EqualFold(state.Details.TransitionID, l.world.ClaimID) {
			n++
		}
	}
	return n
}

// superseded tells whether the run has been terminal or suspended since a claim: then
// the attempt of that claim is over, whatever its Job does.
func (l *look) superseded(transitionID string) bool {
	if l.run == nil || transitionID == "" {
		return false
	}
	var claimed *prefect.State
	for i, state := range l.states {
		if state.Name == "Pending" && strings.EqualFold(state.Details.TransitionID, transitionID) {
			claimed = &l.states[i]
		}
	}
	return claimed != nil && slices.ContainsFunc(l.states, func(state prefect.State) bool {
		ended := over(state.Type) || state.Type == "PAUSED" && state.Name == "Suspended"
		return ended && state.Timestamp.After(claimed.Timestamp)
	})
}
