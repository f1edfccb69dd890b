package prefect

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
)

// Deployment is a deployment.
type Deployment struct {
	ID               string
	Name             string
	FlowID           string
	WorkPoolName     string
	ConcurrencyLimit *int // nil: none
	JobVariables     JobVariables
	Raw              json.RawMessage // the whole document, as sent
}

// JobVariables are those of a deployment that Slipway reads by themselves.
type JobVariables struct {
	Namespace string
}

// UnmarshalJSON takes a namespace of another type than text for none: a template
// may make text of it, and only a rendering tells.
func (v *JobVariables) UnmarshalJSON(data []byte) error {
	var fields struct {
		Namespace any `json:"namespace"`
	}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil //nolint:nilerr // not an object, and so without a namespace
	}
	v.Namespace, _ = fields.Namespace.(string)
	return nil
}

// UnmarshalJSON finds the limit where the server's version has it: 3.x keeps it
// in global_concurrency_limit; 2.20 has no limit of deployments.
func (d *Deployment) UnmarshalJSON(data []byte) error {
	var fields struct {
		ID     string `json:"id"`
		Name   string `json:"name"`
		FlowID string `json:"flow_id"`
		Pool   string `json:"work_pool_name"`
		Limit  *int   `json:"concurrency_limit"`

		JobVariables   JobVariables `json:"job_variables"`
		InfraOverrides JobVariables `json:"infra_overrides"` // as 2.20 sends them
		Global         *struct {
			Limit int `json:"limit"`
		} `json:"global_concurrency_limit"`
	}
	if err := keepRaw(data, &fields, &d.Raw); err != nil {
		return err
	}
	d.ID, d.Name, d.ConcurrencyLimit = fields.ID, fields.Name, fields.Limit
	d.FlowID, d.WorkPoolName, d.JobVariables = fields.FlowID, fields.Pool, fields.JobVariables
	if d.JobVariables.Namespace == "" {
		d.JobVariables = fields.InfraOverrides
	}
	if fields.Global != nil {
		d.ConcurrencyLimit = &fields.Global.Limit
	}
	return nil
}

// Deployment reads one deployment.
func (c *Client) Deployment(ctx context.Context, id string) (*Deployment, error) {
	return read[Deployment](ctx, c, call{op: "read deployment " + id, method: http.MethodGet, path: "/deployments/" + seg(id)})
}

// DeploymentByName reads the deployment of a flow.
func (c *Client) DeploymentByName(ctx context.Context, flow, name string) (*Deployment, error) {
	return read[Deployment](ctx, c, call{op: "read deployment " + flow + "/" + name, method: http.MethodGet, path: "/deployments/name/" + seg(flow) + "/" + seg(name)})
}

// Deployments reads many by id. Those that do not exist are left out.
func (c *Client) Deployments(ctx context.Context, ids []string) ([]Deployment, error) {
	return byIDs[Deployment](ctx, c, "deployments", ids)
}

// lean is a deployment without its whole document, which may be large.
type lean struct{ Deployment }

// UnmarshalJSON reads the fields only.
func (l *lean) UnmarshalJSON(data []byte) error {
	err := l.Deployment.UnmarshalJSON(data)
	l.Raw = nil
	return err
}

// DeploymentsOfPool reads all deployments of a work pool, page by page, the newest
// first: one that is made meanwhile does not hide another. Their Raw is nil.
func (c *Client) DeploymentsOfPool(ctx context.Context, pool string) ([]Deployment, error) {
	k := call{op: "read the deployments of work pool " + pool, method: http.MethodPost, path: "/deployments/filter"}
	found, err := readAll[lean](ctx, c, k, map[string]any{
		"work_pools": map[string]any{"name": anyOf(pool)}, "sort": "CREATED_DESC",
	}, 0)
	deployments := make([]Deployment, len(found))
	for i := range found {
		deployments[i] = found[i].Deployment
	}
	return deployments, err
}

// Flow is a flow.
type Flow struct {
	ID   string          `json:"id"`
	Name string          `json:"name"`
	Raw  json.RawMessage `json:"-"` // the whole document, as sent
}

// UnmarshalJSON keeps the document beside the fields.
func (f *Flow) UnmarshalJSON(data []byte) error {
	type fields Flow
	return keepRaw(data, (*fields)(f), &f.Raw)
}

// Flows reads many by id. Those that do not exist are left out.
func (c *Client) Flows(ctx context.Context, ids []string) ([]Flow, error) {
	return byIDs[Flow](ctx, c, "flows", ids)
}

// byIDs filters a collection by its objects' ids.
func byIDs[T any](ctx context.Context, c *Client, collection string, ids []string) ([]T, error) {
	k := call{op: "read " + collection, method: http.MethodPost, path: "/" + collection + "/filter"}
	var all []T
	for some := range slices.Chunk(ids, maxPageSize) {
		found, err := readAll[T](ctx, c, k, map[string]any{collection: map[string]any{"id": anyOf(some...)}}, len(some))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
