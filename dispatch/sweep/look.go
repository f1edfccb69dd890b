package sweep

import (
	"context"
	"slices"
	"strings"
	"time"

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
	if err := l.readJobs(ctx, l.places(places)); err != nil {
		return World{}, nil, err
	}
	l.findJob(ctx)
	if err := l.readHistory(ctx); err != nil {
		return World{}, nil, err
	}
	l.adopt(ctx)
	l.readPods(ctx)
	if l.world.Stuck != nil || l.world.Job.State == Failed {
		session.LearnSecrets(ctx, run, l.world.ClaimID) // the cluster's words may quote them
	}
	return l.world, run, nil
}

// maxFormer bounds the earlier claims whose Jobs are looked for.
const maxFormer = 5

// places are where Jobs of the run may be: as given, where its pid says, and where its
// last claims say, as far as its history has been read.
func (l *look) places(given []claim.Place) []claim.Place {
	places := slices.Clone(given)
	add := func(place claim.Place) bool {
		fresh := place.Known() && !slices.Contains(places, place)
		if fresh {
			places = append(places, place)
		}
		return fresh
	}
	add(l.world.PID)
	former := 0
	for _, state := range slices.Backward(l.states) {
		if former < maxFormer && add(claim.PlaceOf(state.Message, state.Details.TransitionID)) {
			former++
		}
	}
	return places
}

// readRun keeps what the run says of itself.
func (l *look) readRun() {
	w, run := &l.world, l.run
	w.RunID, w.Name, w.State, w.Started = run.ID, run.Name, run.StateType, run.StartTime != nil
	if run.State != nil {
		w.Since = run.State.Timestamp
	}
	w.EngineRetry = run.WaitsForEngine() && run.StateType != "RUNNING"
	if run.NextScheduledStartTime != nil {
		w.RetryAt = *run.NextScheduledStartTime
	}
	w.PID = claim.ParsePID(run.InfrastructurePID)
	w.OfPool = run.WorkPoolName == l.session.Pool.Name
}

// readClaim finds the newest state named exactly Pending: sub-states and the engine
// have put others in its place.
func (l *look) readClaim(ctx context.Context) error {
	state := l.run.State
	if over(l.world.State) || l.world.State == "PAUSED" {
		return nil // the claim does not matter any more
	}
	if state == nil || !grantsClaim(state) {
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
	w.SubState = w.State == "PENDING" && l.run.StateName != "Pending"
	w.Job.Place = claim.PlaceOf(state.Message, w.ClaimID)
	if w.Reported {
		w.Job.Place = w.PID
	}
	return nil
}

func newestClaim(states []prefect.State) *prefect.State {
	var newest *prefect.State
	for i := range states {
		if state := &states[i]; grantsClaim(state) && (newest == nil || state.Timestamp.After(newest.Timestamp)) {
			newest = state
		}
	}
	return newest
}

// grantsClaim tells whether a state is a claim, whoever made it.
func grantsClaim(state *prefect.State) bool {
	return state.Type == "PENDING" && state.Name == "Pending"
}

// endsAttempt tells whether the attempt of the claim before a state is over with it.
func endsAttempt(state *prefect.State) bool {
	return over(state.Type) || state.Type == "PAUSED" && state.Name == "Suspended"
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
	if over(l.world.State) || l.states == nil && len(others) == 0 && !ended {
		return nil
	}
	if l.states == nil {
		states, err := l.session.Prefect.FlowRunStates(ctx, l.run.ID)
		if err != nil {
			return err
		}
		l.states = states
	}
	for i := range others {
		others[i].Superseded = l.superseded(others[i].ClaimID)
	}
	l.world.Twice = l.grants() > 1
	l.world.Elsewhere = l.startedElsewhere()
	return nil
}

// startedElsewhere is when the run was started after the attempt of its newest claim was
// over, without another claim; zero if it was not.
func (l *look) startedElsewhere() time.Time {
	var ended, started time.Time
	for _, state := range l.states { // the oldest first
		switch {
		case !state.Timestamp.After(l.world.ClaimedAt):
		case endsAttempt(&state):
			ended = state.Timestamp
		case !ended.IsZero() && (state.Type == "RUNNING" || state.Type == "PENDING") && state.Timestamp.After(ended):
			started = state.Timestamp
		}
	}
	return started
}

// grants counts the states that the current claim was granted.
func (l *look) grants() int {
	n := 0
	for _, state := range l.states {
		if grantsClaim(&state) && strings.EqualFold(state.Details.TransitionID, l.world.ClaimID) {
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
	var claimed *prefect.State // when it was granted first
	for i, state := range l.states {
		granted := state.Name == "Pending" && strings.EqualFold(state.Details.TransitionID, transitionID)
		if granted && (claimed == nil || state.Timestamp.Before(claimed.Timestamp)) {
			claimed = &l.states[i]
		}
	}
	return claimed != nil && slices.ContainsFunc(l.states, func(state prefect.State) bool {
		return endsAttempt(&state) && state.Timestamp.After(claimed.Timestamp)
	})
}
