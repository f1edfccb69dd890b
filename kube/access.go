package kube

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// Access is one right: a verb on a resource. An empty Namespace means all of them.
type Access struct{ Namespace, Verb, Group, Resource, Subresource string }

// May asks the API server whether these credentials have a right
// (SelfSubjectAccessReview, which every user may create).
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
	var review struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	req := c.core.Post().AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").
		SetHeader("Content-Type", "application/json").Body(body)
	_, err = c.do(ctx, "ask for the right to "+a.Verb+" "+a.Resource, req, &review)
	return review.Status.Allowed, err
}

// Has reports whether an object of the core API exists, such as one of
// serviceaccounts, secrets or namespaces. If it may not be read, the error is one
// of IsRefused.
func (c *Client) Has(ctx context.Context, namespace, resource, name string) (bool, error) {
	req := c.core.Get().Resource(resource).Name(name)
	if namespace != "" {
		req = req.Namespace(namespace)
	}
	_, err := c.do(ctx, "get "+resource+" "+namespace+"/"+name, req, nil)
	var e *Error
	if errors.As(err, &e) && e.Status == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}
