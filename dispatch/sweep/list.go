package sweep

import (
	"context"
	"slices"
	"strings"
	"time"

	"slipway/dispatch/claim"
	"slipway/dispatch/report"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/prefect"
)

// listed is an unfinished Job as the list shows it: what says which run it is of, and
// whether that needs a look.
type listed struct {
	place    claim.Place
	run      string // id of its flow run, in lower case
	claim    string // transition id; "": a Python worker's
	created  time.Time
	podless  bool
	deleting bool
}

// subject is a flow run that needs a look, or a row that needs none.
type subject struct {
	id      string
	state   string
	jobs    []claim.Place // where Jobs of it are, as far as the lists tell
	row     *report.Row
	unknown bool        // it is RUNNING, and no Job of it is in the list: most likely somebody else's
	pid     claim.Place // of an unknown one
}

// keptKeys are the labels and annotations that are kept of a Job.
var keptKeys = []string{claim.LabelFlowRun, claim.AnnotationID, claim.AnnotationCluster}

// listJobs lists the unfinished Jobs of this work pool: in the namespaces that the
// settings name, else in all, and where that is not allowed, in those that the work
// pool and its deployments name. A namespace that cannot be listed is only warned of:
// no decision is made by the absence from a list.
func (s *sweep) listJobs(ctx context.Context) {
	namespaces := slices.Clone(s.session.Options.Namespaces)
	var guessed []string
	if len(namespaces) == 0 {
		err := s.listIn(ctx, "")
		if err == nil {
			return
		}
		if !kube.IsRefused(err) {
			s.miss(err, "Jobs of runs that are over are not looked at")
		}
		namespaces, guessed = s.session.DeploymentNamespaces(ctx), s.session.Template.Namespaces()
	}
	all := slices.Concat(namespaces, guessed)
	slices.Sort(all)
	for _, namespace := range slices.Compact(all) {
		err := s.listIn(ctx, namespace)
		if err != nil && (!kube.IsRefused(err) || slices.Contains(namespaces, namespace)) {
			s.miss(err, "Jobs there of runs that are over are not looked at")
		}
	}
}

// listIn adds the Jobs of a namespace, or of all (""), to the list.
func (s *sweep) listIn(ctx context.Context, namespace string) error {
	pool := strings.ToLower(s.session.Pool.ID)
	selectors := []string{claim.LabelPool + "=" + pool}
	if s.session.Options.Adopt {
		selectors = append(selectors, claim.LabelWorkersPool+"="+pool+",!"+claim.LabelPool)
	}
	for _, selector := range selectors {
		found := map[claim.Place]bool{}
		err := s.session.Kube.EachJob(ctx, kube.JobList{Namespace: namespace, LabelSelector: selector, FieldSelector: kube.NotSucceeded, Keys: keptKeys}, func(job *kube.Job) {
			place := claim.Place{Namespace: job.Namespace, Name: job.Name}
			if !job.Finished() && !found[place] {
				found[place] = true
				s.add(job, place)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// add keeps a Job, unless its annotations name another cluster. Whether its claim
// proves itself is seen where the Job is looked at.
func (s *sweep) add(job *kube.Job, place claim.Place) {
	l := &listed{
		place: place, run: strings.ToLower(job.Labels[claim.LabelFlowRun]), claim: job.Annotations[claim.AnnotationID],
		created: s.session.KubeTime(job.Created), podless: job.Podless, deleting: job.Deleting,
	}
	if l.claim != "" && job.Annotations[claim.AnnotationCluster] != s.session.Cluster {
		return
	}
	s.byRun[l.run] = append(s.byRun[l.run], l)
}

// triage lists the active runs, after the Jobs, and picks those that need a look; and
// those of Jobs whose runs are not among them.
func (s *sweep) triage(ctx context.Context) ([]*subject, error) {
	var subjects []*subject
	var waiting []*waitingRun
	seen := map[string]bool{}
	filter := prefect.RunFilter{WorkPool: s.session.Pool.Name, StateTypes: []string{"PENDING", "RUNNING", "CANCELLING"}, StateNames: []string{"AwaitingRetry"}}
	err := s.session.Prefect.EachFlowRun(ctx, filter, func(run *prefect.FlowRun) error {
		id := strings.ToLower(run.ID)
		if seen[id] {
			return nil
		}
		seen[id] = true
		s.report.Observed++
		jobs := s.byRun[id]
		if picked := s.pick(run, jobs); picked != nil {
			subjects = append(subjects, picked)
		} else if job := s.mayBeStuck(run, jobs); job != nil {
			waiting = append(waiting, &waitingRun{id: id, state: run.StateType, job: job})
		}
		return nil
	})
	if err != nil {
		return nil, workpool.PrefectError(ctx, "list the active flow runs", err)
	}
	subjects = append(subjects, s.stuckOnes(ctx, waiting)...)
	ended, err := s.runsOfJobs(ctx, seen)
	return append(subjects, ended...), err
}

// runsOfJobs picks the runs of Jobs that are not among the active ones: ended, deleted,
// retried, or claimed since the list was made. What ended a moment ago needs no look.
func (s *sweep) runsOfJobs(ctx context.Context, seen map[string]bool) ([]*subject, error) {
	var ids []string
	for id := range s.byRun {
		if !seen[id] && id != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	s.report.Observed += len(ids)
	young := map[string]bool{}
	err := s.session.Prefect.EachFlowRun(ctx, prefect.RunFilter{IDs: ids}, func(run *prefect.FlowRun) error {
		young[strings.ToLower(run.ID)] = over(run.StateType) && run.State != nil && s.young(run.State.Timestamp)
		return nil
	})
	if err != nil {
		return nil, workpool.PrefectError(ctx, "read the flow runs of the Jobs", err)
	}
	var subjects []*subject
	for _, id := range ids {
		if !young[id] {
			subjects = append(subjects, newSubject(id, "", s.byRun[id]))
		}
	}
	return subjects, nil
}

func newSubject(id, state string, jobs []*listed) *subject {
	s := &subject{id: id, state: state}
	for _, job := range jobs {
		s.jobs = append(s.jobs, job.place)
	}
	return s
}

// pick says whether an active run needs a look; nil if its Job is in the list and all
// is as it should be.
func (s *sweep) pick(run *prefect.FlowRun, jobs []*listed) *subject {
	if slices.ContainsFunc(jobs, func(job *listed) bool { return s.isHealthy(run, job) }) {
		return nil
	}
	picked := newSubject(run.ID, run.StateType, jobs)
	switch {
	case run.StateType == "SCHEDULED" && !run.WaitsForEngine() && len(jobs) == 0:
		return nil // the poll returns it
	case len(jobs) == 0 && s.waitFor(run) != "":
		picked.row = &report.Row{ID: run.ID, Name: run.Name, State: run.StateType, Action: report.LeaveAlone, Reason: s.waitFor(run)}
	case len(jobs) == 0 && run.StateType == "RUNNING":
		picked.pid = claim.ParsePID(run.InfrastructurePID)
		picked.unknown = true
	}
	return picked
}

// isHealthy tells whether a run is executed, or will be, by an unfinished Job of its
// current claim, and says where that is.
func (s *sweep) isHealthy(run *prefect.FlowRun, job *listed) bool {
	if job.claim == "" || job.deleting {
		return false
	}
	reported := claim.ParsePID(run.InfrastructurePID) == job.place || s.young(job.created)
	switch run.StateType {
	case "RUNNING":
		return reported
	case "PENDING":
		current := !isClaim(run) || strings.EqualFold(job.claim, run.TransitionID())
		return reported && current && !run.WaitsForEngine()
	case "SCHEDULED":
		return reported && run.WaitsForEngine()
	}
	return false
}

// isClaim tells whether the run's state is its claim, and not one written since.
func isClaim(run *prefect.FlowRun) bool {
	return run.StateType == "PENDING" && run.StateName == "Pending" && run.State != nil
}

// waitFor says why a claim without a Job needs no look yet; "" if it does.
func (s *sweep) waitFor(run *prefect.FlowRun) string {
	options := s.session.Options
	if !isClaim(run) || options.Adopt {
		return ""
	}
	age := s.session.ServerNow().Sub(run.State.Timestamp)
	switch owner := ownerOf(s.session.Cluster, run.ID, run.TransitionID()); {
	case owner == OtherCluster, owner == Foreign && (options.ForeignOrphanGrace == 0 || age <= options.ForeignOrphanGrace):
		return "claimed by " + owner.String()
	case owner == Ours && age <= options.OrphanGrace:
		return "claimed a moment ago; its owner has " + options.OrphanGrace.String() + " to make the Job"
	}
	return ""
}

func (s *sweep) young(created time.Time) bool {
	return s.session.ServerNow().Sub(created) <= s.session.Options.SettleGrace
}

// ownerOf tells by a claim's id who made it.
func ownerOf(cluster, runID, transitionID string) Owner {
	switch {
	case claim.Verify(cluster, runID, transitionID):
		return Ours
	case claim.IsSlipways(transitionID):
		return OtherCluster
	}
	return Foreign
}
