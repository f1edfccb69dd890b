package workpool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"slipway/dispatch/claim"
	"slipway/prefect"
	"slipway/render"
)

// documents caches the blocks and variables that templates refer to, for the
// length of a session. A nil entry is a document known to be absent.
type documents struct {
	mu  sync.Mutex
	all render.Documents
}

// Documents is a copy for one rendering; the documents themselves are never changed.
func (s *Session) Documents() render.Documents {
	d := &s.docs
	d.mu.Lock()
	defer d.mu.Unlock()
	return render.Documents{
		BlocksByName: maps.Clone(d.all.BlocksByName),
		BlocksByID:   maps.Clone(d.all.BlocksByID),
		Variables:    maps.Clone(d.all.Variables),
	}
}

// Render makes the Job of a run's claim, and holds it to what the API server is
// known to refuse. Errors: *render.Fault for a user's error, ErrDeploymentGone,
// ErrFlowGone, or those of a failed read.
func (s *Session) Render(ctx context.Context, run *prefect.FlowRun, transitionID string) (*render.Job, error) {
	documents := render.Run{FlowRun: run.Raw, Suffix: claim.Suffix(transitionID)}
	deployment, err := s.Deployment(ctx, run)
	if err != nil {
		return nil, err
	}
	if deployment != nil {
		documents.Deployment = deployment.Raw
	}
	flow, err := s.flow(ctx, run)
	if err != nil {
		return nil, err
	}
	documents.Flow = flow.Raw
	if documents.FlowRun, err = s.wholeRun(ctx, run, documents.Deployment); err != nil {
		return nil, err
	}
	job, err := s.RenderDocuments(ctx, documents)
	if err != nil {
		return nil, err
	}
	if err := otherCluster(job); err != nil {
		return nil, err
	}
	return job, job.Check()
}

// LearnSecrets reads the blocks that a run's Job is made of, so that what the cluster
// quotes of them is hidden. Whether a Job can be made is of no matter.
func (s *Session) LearnSecrets(ctx context.Context, run *prefect.FlowRun, transitionID string) {
	if _, err := s.Render(ctx, run, transitionID); err != nil {
		return // the blocks that could be read are known
	}
}

// wholeRun is the document of a run. A poll leaves large parameters out; they are
// read only where the name of a Job may be made of them ({{ ctx.flow_run... }}).
func (s *Session) wholeRun(ctx context.Context, run *prefect.FlowRun, deployment []byte) (json.RawMessage, error) {
	needed := s.usesRun || bytes.Contains(deployment, []byte("ctx.")) || bytes.Contains(run.Raw, []byte("ctx."))
	if len(run.Raw) > 0 && (!run.Trimmed || !needed) {
		return run.Raw, nil
	}
	whole, err := s.Prefect.FlowRun(ctx, run.ID)
	if err != nil {
		return nil, err
	}
	return whole.Raw, nil
}

// RenderDocuments renders, fetching what the rendering turns out to refer to.
func (s *Session) RenderDocuments(ctx context.Context, run render.Run) (*render.Job, error) {
	if s.Fault != nil {
		return nil, s.Fault
	}
	// Each round resolves what the round before brought to light: a variable
	// can hold a reference to a block, and that one to another.
	const rounds = 20
	for range rounds {
		job, err := s.Template.Render(run, s.Documents())
		var missing *render.Missing
		if !errors.As(err, &missing) {
			return job, err
		}
		if err := s.fetch(ctx, missing); err != nil {
			return nil, err
		}
	}
	return nil, &render.Fault{At: "blocks", Message: fmt.Sprintf("block and variable references still lead to others after %d steps: do they form a ring?", rounds)}
}

// fetch reads documents. No other rendering waits for it.
func (s *Session) fetch(ctx context.Context, missing *render.Missing) error {
	d := &s.docs
	for _, kind := range []struct {
		ids  []string
		into func() *map[string]json.RawMessage
		get  func(context.Context, string) (json.RawMessage, error)
	}{
		{missing.BlocksByName, func() *map[string]json.RawMessage { return &d.all.BlocksByName }, s.blockByName},
		{missing.BlocksByID, func() *map[string]json.RawMessage { return &d.all.BlocksByID }, s.Prefect.BlockDocument},
		{missing.Variables, func() *map[string]json.RawMessage { return &d.all.Variables }, s.Prefect.Variable},
	} {
		for _, id := range kind.ids {
			document, err := kind.get(ctx, id)
			if err != nil && !prefect.IsNotFound(err) {
				return err
			}
			s.Options.Redactor.LearnBlock(document)
			d.mu.Lock()
			into := kind.into()
			if *into == nil {
				*into = map[string]json.RawMessage{}
			}
			(*into)[id] = document
			d.mu.Unlock()
		}
	}
	return nil
}

// blockByName takes "type-slug/document name".
func (s *Session) blockByName(ctx context.Context, name string) (json.RawMessage, error) {
	slug, document, _ := strings.Cut(name, "/")
	return s.Prefect.BlockDocumentByName(ctx, slug, document)
}

// otherCluster refuses a Job that belongs into another cluster than the one that
// Slipway serves: nothing would repair it there.
func otherCluster(job *render.Job) error {
	if kubeconfig, _ := job.ClusterConfig(); kubeconfig == nil {
		return nil
	}
	return &render.Fault{At: "submit", Path: "cluster_config", Message: "it names a block kubernetes-cluster-config, and Slipway creates Jobs in its own cluster only; " +
		"remove the variable from the work pool, the deployment and the run, and let a Slipway of that cluster serve a work pool of its own"}
}
