package workpool

import (
	"context"
	"errors"
	"slices"
	"sync"

	"slipway/prefect"
)

// ErrDeploymentGone and ErrFlowGone: what a run belongs to is deleted, by a read of
// its id.
var (
	ErrDeploymentGone = errors.New("its deployment is deleted")
	ErrFlowGone       = errors.New("its flow is deleted")
)

// maxOwners bounds what is kept of deployments, whose documents may be large.
const maxOwners = 500

// owners caches the deployments and flows of runs for the length of a session.
type owners struct {
	mu          sync.Mutex
	deployments map[string]*prefect.Deployment
	flows       map[string]*prefect.Flow
}

// ReadOwners fetches the deployments and flows of runs in bulk, once per session
// each. What the lists leave out is read by id when it is needed.
func (s *Session) ReadOwners(ctx context.Context, runs []prefect.FlowRun) error {
	o := &s.owners
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.deployments) > maxOwners {
		o.deployments, o.flows = map[string]*prefect.Deployment{}, map[string]*prefect.Flow{}
	}
	ids := unread(o.deployments, runs, func(r *prefect.FlowRun) string { return r.DeploymentID })
	if len(ids) > 0 {
		found, err := s.Prefect.Deployments(ctx, ids)
		if err != nil {
			return PrefectError(ctx, "read the deployments of the due flow runs", err)
		}
		for i := range found {
			o.deployments[found[i].ID] = &found[i]
		}
	}
	ids = unread(o.flows, runs, func(r *prefect.FlowRun) string { return r.FlowID })
	if len(ids) > 0 {
		found, err := s.Prefect.Flows(ctx, ids)
		if err != nil {
			return PrefectError(ctx, "read the flows of the due flow runs", err)
		}
		for i := range found {
			o.flows[found[i].ID] = &found[i]
		}
	}
	return nil
}

// unread lists the ids that a cache does not know, each once.
func unread[T any](cache map[string]*T, runs []prefect.FlowRun, id func(*prefect.FlowRun) string) []string {
	var ids []string
	seen := map[string]bool{"": true}
	for i := range runs {
		one := id(&runs[i])
		if cache[one] == nil && !seen[one] {
			ids = append(ids, one)
		}
		seen[one] = true
	}
	return ids
}

// Deployment is that of a run: from the cache, else read by id. A run without a
// deployment has a nil one. Errors: ErrDeploymentGone, or those of the read.
func (s *Session) Deployment(ctx context.Context, run *prefect.FlowRun) (*prefect.Deployment, error) {
	if run.DeploymentID == "" {
		return nil, nil //nolint:nilnil // a run may have none
	}
	o := &s.owners
	o.mu.Lock()
	known := o.deployments[run.DeploymentID]
	o.mu.Unlock()
	if known != nil {
		return known, nil
	}
	found, err := s.Prefect.Deployment(ctx, run.DeploymentID)
	if prefect.IsNotFound(err) {
		return nil, ErrDeploymentGone
	}
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deployments[run.DeploymentID] = found
	return found, nil
}

// flow is that of a run, likewise. Errors: ErrFlowGone, or those of the read.
func (s *Session) flow(ctx context.Context, run *prefect.FlowRun) (*prefect.Flow, error) {
	o := &s.owners
	o.mu.Lock()
	known := o.flows[run.FlowID]
	o.mu.Unlock()
	if known != nil {
		return known, nil
	}
	found, err := s.Prefect.Flow(ctx, run.FlowID)
	if prefect.IsNotFound(err) {
		return nil, ErrFlowGone
	}
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flows[run.FlowID] = found
	return found, nil
}

// DeploymentNamespaces are those that job variables of the work pool's deployments name.
func (s *Session) DeploymentNamespaces(ctx context.Context) []string {
	deployments, err := s.Prefect.DeploymentsOfPool(ctx, s.Pool.Name)
	if err != nil {
		s.Warn("%v; Jobs in its deployments' own namespaces are not looked at; SLIPWAY_NAMESPACES can name them", err)
	}
	var namespaces []string
	for _, d := range deployments {
		if d.JobVariables.Namespace != "" && !slices.Contains(namespaces, d.JobVariables.Namespace) {
			namespaces = append(namespaces, d.JobVariables.Namespace)
		}
	}
	return namespaces
}
