package kube

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PutSecret creates a Secret from its JSON, or replaces the data of the one of
// that name. It needs the verbs create and patch on secrets, and never reads one.
func (c *Client) PutSecret(ctx context.Context, namespace, name string, body []byte) error {
	op := "create Secret " + namespace + "/" + name
	create := c.core.Post().Namespace(namespace).Resource("secrets").
		SetHeader("Content-Type", "application/json").Body(body)
	_, err := c.do(ctx, op, create, nil)
	if !IsExists(err) {
		return err
	}
	patch := c.core.Patch(types.MergePatchType).Namespace(namespace).Resource("secrets").Name(name).Body(body)
	_, err = c.do(ctx, "update Secret "+namespace+"/"+name, patch, nil)
	return err
}

// OwnSecret makes a Job the owner of a Secret, so that the garbage collector
// deletes the Secret with the Job.
func (c *Client) OwnSecret(ctx context.Context, namespace, name string, job *Job) error {
	owner := metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: types.UID(job.UID)}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"ownerReferences": []metav1.OwnerReference{owner}},
	})
	if err != nil {
		return fmt.Errorf("encode the owner of Secret %s/%s: %w", namespace, name, err)
	}
	patch := c.core.Patch(types.MergePatchType).Namespace(namespace).Resource("secrets").Name(name).Body(body)
	_, err = c.do(ctx, "give Secret "+namespace+"/"+name+" to its Job", patch, nil)
	return err
}

// DeleteSecret removes a Secret; a missing one is no error.
func (c *Client) DeleteSecret(ctx context.Context, namespace, name string) error {
	req := c.core.Delete().Namespace(namespace).Resource("secrets").Name(name)
	_, err := c.do(ctx, "delete Secret "+namespace+"/"+name, req, nil)
	if IsNotFound(err) {
		return nil
	}
	return err
}

// ClusterUID is the UID of the namespace kube-system: stable for the life of a
// cluster, and what Prefect 2.x writes into its infrastructure pids.
func (c *Client) ClusterUID(ctx context.Context) (string, error) {
	var ns corev1.Namespace
	if _, err := c.do(ctx, "get Namespace kube-system", c.core.Get().Resource("namespaces").Name("kube-system"), &ns); err != nil {
		return "", err
	}
	return string(ns.UID), nil
}

// Ping asks for the server's version, which every user may read.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.do(ctx, "get /version", c.core.Get().AbsPath("/version"), nil)
	return err
}

// Ready asks the API server whether it is ready. One that is starting answers with
// refusals until it has read its roles.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.do(ctx, "get /readyz", c.core.Get().AbsPath("/readyz"), nil)
	return err
}
