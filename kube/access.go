package kube

import (
	"context"
	"encoding/json"
	"net/http"
)

// Access is something that may be allowed or not.
type Access struct{ Namespace, Verb, Group, Resource, Subresource string }

// May asks the API server whether these credentials may do something
// (SelfSubjectAccessReview, which everybody may ask).
func (c *Client) May(ctx context.Context, a Access) (bool, error) {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{
			"namespace": a.Namespace, "verb": a.Verb, "group": a.Group, "resource": a.Resource, "subresource": a.Subresource,
		}},
	})
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	raw, err := c.core.Verb(http.MethodPost).AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").
		SetHeader("Content-Type", "application/json").Body(body).MaxRetries(0).DoRaw(ctx)
	if err != nil {
		return false, classify("ask for the right to "+a.Verb+" "+a.Resource, err, true)
	}
	var review struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	return review.Status.Allowed, json.Unmarshal(raw, &review)
}

// Has asks whether an object of the core API exists: serviceaccounts, secrets,
// namespaces. An Error of kind Refused means that it may not be looked at.
func (c *Client) Has(ctx context.Context, namespace, resource, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req := c.core.Get().Resource(resource).Name(name)
	if namespace != "" {
		req = req.Namespace(namespace)
	}
	_, err := req.MaxRetries(0).DoRaw(ctx)
	if err == nil {
		return true, nil
	}
	typed := classify("get "+resource+" "+namespace+"/"+name, err, true)
	if typed.Status == http.StatusNotFound {
		return false, nil
	}
	return false, typed
}
