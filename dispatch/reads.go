package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"slipway/prefect"
	"slipway/render"
)

// readOwners fetches the deployments and flows of runs, once per pass each.
func (p *pass) readOwners(ctx context.Context, runs []prefect.FlowRun) error {
	deployments := unread(p.deployments, runs, func(r prefect.FlowRun) string { return r.DeploymentID })
	if len(deployments) > 0 {
		found, err := p.Prefect.Deployments(ctx, deployments)
		if err != nil {
			return prefectError(ctx, "read the deployments of the due flow runs", err)
		}
		for i := range found {
			p.deployments[found[i].ID] = &found[i]
		}
	}
	flows := unread(p.flows, runs, func(r prefect.FlowRun) string { return r.FlowID })
	if len(flows) > 0 {
		found, err := p.Prefect.Flows(ctx, flows)
		if err != nil {
			return prefectError(ctx, "read the flows of the due flow runs", err)
		}
		for i := range found {
			p.flows[found[i].ID] = &found[i]
		}
	}
	return nil
}

// unread lists the ids that cache does not know, each once.
func unread[T any](cache map[string]*T, runs []prefect.FlowRun, id func(prefect.FlowRun) string) []string {
	var ids []string
	seen := map[string]bool{"": true}
	for _, run := range runs {
		one := id(run)
		if _, known := cache[one]; !known && !seen[one] {
			ids = append(ids, one)
		}
		seen[one] = true
	}
	return ids
}

// documents caches the blocks and variables that templates refer to, for the
// length of one pass. A nil entry is a document known to be absent.
type documents struct {
	mu  sync.Mutex
	all render.Documents
}

// view is a copy for one rendering; the documents themselves are never changed.
func (d *documents) view() render.Documents {
	d.mu.Lock()
	defer d.mu.Unlock()
	return render.Documents{
		BlocksByName: maps.Clone(d.all.BlocksByName),
		BlocksByID:   maps.Clone(d.all.BlocksByID),
		Variables:    maps.Clone(d.all.Variables),
	}
}

// renderJob renders, fetching what the rendering turns out to refer to. It returns
// *render.Fault for a user's error and *prefect.Error for a failed read.
func (p *pass) renderJob(ctx context.Context, run render.Run) (*render.Job, error) {
	if p.fault != nil {
		return nil, p.fault
	}
	// Each round resolves what the round before brought to light: a variable
	// can hold a reference to a block, and that one to another.
	const rounds = 20
	for range rounds {
		job, err := p.template.Render(run, p.documents.view())
		var missing *render.Missing
		if !errors.As(err, &missing) {
			return job, err
		}
		if err := p.fetch(ctx, missing); err != nil {
			return nil, err
		}
	}
	return nil, &render.Fault{At: "blocks", Message: fmt.Sprintf("block and variable references still lead to others after %d steps: do they form a ring?", rounds)}
}

func (p *pass) fetch(ctx context.Context, missing *render.Missing) error {
	p.documents.mu.Lock()
	defer p.documents.mu.Unlock()
	all := &p.documents.all
	for _, kind := range []struct {
		ids  []string
		into *map[string]json.RawMessage
		get  func(context.Context, string) (json.RawMessage, error)
	}{
		{missing.BlocksByName, &all.BlocksByName, p.blockByName},
		{missing.BlocksByID, &all.BlocksByID, p.Prefect.BlockDocument},
		{missing.Variables, &all.Variables, p.Prefect.Variable},
	} {
		if *kind.into == nil {
			*kind.into = map[string]json.RawMessage{}
		}
		for _, id := range kind.ids {
			if _, known := (*kind.into)[id]; known {
				continue
			}
			document, err := kind.get(ctx, id)
			if err != nil && !isNotFound(err) {
				return err
			}
			p.hide(document)
			(*kind.into)[id] = document
		}
	}
	return nil
}

// blockByName takes "type-slug/document name".
func (p *pass) blockByName(ctx context.Context, name string) (json.RawMessage, error) {
	slug, document, _ := strings.Cut(name, "/")
	return p.Prefect.BlockDocumentByName(ctx, slug, document)
}
