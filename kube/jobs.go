package kube

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Job is what the API server says of a Job.
type Job struct {
	Namespace   string
	Name        string
	UID         string
	Annotations map[string]string
	Finished    bool // has the condition Complete or Failed
	Deleting    bool // has a deletion timestamp
}

// CreateJob posts a manifest, as JSON and unchanged, to a namespace. It returns
// the Job and the API server's warnings, such as those about unknown fields,
// which it prunes. The manifest's metadata.name makes a repeat safe: it answers
// Exists.
func (c *Client) CreateJob(ctx context.Context, namespace, name string, manifest []byte) (*Job, []string, error) {
	var job batchv1.Job
	req := c.batch.Post().Namespace(namespace).Resource("jobs").
		SetHeader("Content-Type", "application/json").Body(manifest)
	warned, err := c.do(ctx, "create Job "+namespace+"/"+name, req, &job)
	if err != nil {
		return nil, warned, err
	}
	return observed(&job), warned, nil
}

// Job reads one Job. A missing one is an Error of kind NotFound.
func (c *Client) Job(ctx context.Context, namespace, name string) (*Job, error) {
	var job batchv1.Job
	req := c.batch.Get().Namespace(namespace).Resource("jobs").Name(name)
	if _, err := c.do(ctx, "get Job "+namespace+"/"+name, req, &job); err != nil {
		return nil, err
	}
	return observed(&job), nil
}

func observed(job *batchv1.Job) *Job {
	return &Job{
		Namespace:   job.Namespace,
		Name:        job.Name,
		UID:         string(job.UID),
		Annotations: job.Annotations,
		Finished:    finished(job),
		Deleting:    job.DeletionTimestamp != nil,
	}
}

func finished(job *batchv1.Job) bool {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
