package kube

import (
	"context"
	"encoding/json"

	batchv1 "k8s.io/api/batch/v1"
	kjson "sigs.k8s.io/json"
)

// TryJob creates a Job in a dry run. It returns the Job as the API server would
// store it, with defaults and without unknown fields, and the warnings.
func (c *Client) TryJob(ctx context.Context, namespace string, manifest []byte) ([]byte, []string, error) {
	var job batchv1.Job
	req := c.batch.Post().Namespace(namespace).Resource("jobs").Param("dryRun", "All").
		SetHeader("Content-Type", "application/json").Body(manifest)
	warned, err := c.do(ctx, "try to create a Job in namespace "+namespace, req, &job)
	if err != nil {
		return nil, warned, err
	}
	stored, err := json.Marshal(&job)
	return stored, warned, err
}

// JobJSON reads a whole Job, as JSON.
func (c *Client) JobJSON(ctx context.Context, namespace, name string) ([]byte, error) {
	var job batchv1.Job
	req := c.batch.Get().Namespace(namespace).Resource("jobs").Name(name)
	if _, err := c.do(ctx, "get Job "+namespace+"/"+name, req, &job); err != nil {
		return nil, err
	}
	return json.Marshal(&job)
}

// UnknownFields lists what the API server would prune from a Job's manifest (JSON)
// or refuse in it, by the schema of this client's version: unknown and repeated
// fields, and then a value of the wrong type, if there is one.
func UnknownFields(manifest []byte) []string {
	var job batchv1.Job
	strict, err := kjson.UnmarshalStrict(manifest, &job)
	var found []string
	for _, e := range strict {
		found = append(found, e.Error())
	}
	if err != nil {
		found = append(found, err.Error())
	}
	return found
}
