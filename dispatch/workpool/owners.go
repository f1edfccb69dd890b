package workpool

import (
	"context"
	"errors"
	"fmt"
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

// DeploymentGone tells a run's owner, in the words of the Python worker, that the run's
// deployment is deleted.
func DeploymentGone(run *prefect.FlowRun) string {
	return fmt.Sprintf("Deployment %s was deleted before this flow run could be submitted.", run.DeploymentID)
}

// maxOwners bounds what is kept of deployments and flows, whose documents may be large.
const maxOwners = 500

// cache keeps what runs belong to, by id, for the length of a session.
type cache[T any] struct {
	mu  sync.Mutex
	all map[string]*T
}

// get takes one from the cache, or reads it. absent is the error of one that is not
// there.
func (c *cache[T]) get(ctx context.Context, id string, read func(context.Context, string) (*T, error), absent error) (*T, error) {
	c.mu.Lock()
	known := c.all[id]
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	found, err := read(ctx, id)
	if prefect.IsNotFound(err) {
		return nil, absent
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[id] = found
	return found, nil
}

// fill reads those that the cache does not know, each once. What the list leaves out is
// left to get.
func (c *cache[T]) fill(ctx context.Context, ids []string, read func(context.Context, []string) ([]T, error), idOf func(*T) string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) > maxOwners {
		c.all = map[string]*T{}
	}
	var unread []string
	seen := map[string]bool{"": true}
	for _, id := range ids {
		if c.all[id] == nil && !seen[id] {
			unread = append(unread, id)
		}
		seen[id] = true
	}
	if len(unread) == 0 {
		return nil
	}
	found, err := read(ctx, unread)
	if err != nil {
		return err
	}
	for i := range found {
		c.all[idOf(&found[i])] = &found[i]
	}
	return nil
}

// owners are the deployments and flows of runs.
type owners struct {
	deployments cache[prefect.Deployment]
	flows       cache[prefect.Flow]
}

func newOwners() owners {
	return owners{cache[prefect.Deployment]{all: map[string]*prefect.Deployment{}}, cache[prefect.Flow]{all: map[string]*prefect.Flow{}}}
}

// ReadOwners fetches the deployments and flows of runs in bulk, once per session
// each. What the lists leave out is read by id when it is needed.
func (s *Session) ReadOwners(ctx context.Context, runs []prefect.FlowRun) error {
	var deployments, flows []string
	for i := range runs {
		deployments, flows = append(deployments, runs[i].DeploymentID), append(flows, runs[i].FlowID)
	}
	if err := s.owners.deployments.fill(ctx, deployments, s.Prefect.Deployments, func(d *prefect.Deployment) string { return d.ID }); err != nil {
		return PrefectError(ctx, "read the deployments of the due flow runs", err)
	}
	if err := s.owners.flows.fill(ctx, flows, s.Prefect.Flows, func(f *prefect.Flow) string { return f.ID }); err != nil {
		return PrefectError(ctx, "read the flows of the due flow runs", err)
	}
	return nil
}

// Deployment is that of a run: from the cache, else read by id. A run without a
// deployment has a nil one. Errors: ErrDeploymentGone, or those of the read.
func (s *Session) Deployment(ctx context.Context, run *prefect.FlowRun) (*prefect.Deployment, error) {
	if run.DeploymentID == "" {
		return nil, nil //nolint:nilnil // a run may have none
	}
	return s.owners.deployments.get(ctx, run.DeploymentID, s.Prefect.Deployment, ErrDeploymentGone)
}

// flow is that of a run, likewise. Errors: ErrFlowGone, or those of the read.
func (s *Session) flow(ctx context.Context, run *prefect.FlowRun) (*prefect.Flow, error) {
	return s.owners.flows.get(ctx, run.FlowID, s.Prefect.Flow, ErrFlowGone)
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
