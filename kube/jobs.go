package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Job is what Slipway needs to know of a Job.
type Job struct {
	Namespace   string
	Name        string
	UID         string
	Labels      map[string]string // of a list: only the keys that were asked for; nil: none
	Annotations map[string]string // the same
	Created     time.Time
	Started     time.Time // status.startTime: first start, or last resume; zero: not started
	FinishedAt  time.Time // zero: not finished
	Complete    bool      // succeeded
	Failed      bool      // for good: no further pod is created
	Reason      string    // of the failure: BackoffLimitExceeded, DeadlineExceeded, ...
	Message     string    // of the failure
	Deleting    bool      // has a deletion timestamp
	Suspended   bool      // spec.suspend: the Job controller creates no pod
	Podless     bool      // its status counts no pod, neither now nor earlier
}

// Finished reports whether the Job is complete or has failed for good.
func (j *Job) Finished() bool { return j.Complete || j.Failed }

// CreateJob posts a manifest, as JSON and unchanged, to a namespace. It returns
// the Job and the API server's warnings, such as those about unknown fields,
// which it prunes. The manifest's metadata.name makes a repeat safe: its error is
// one of IsExists.
func (c *Client) CreateJob(ctx context.Context, namespace, name string, manifest []byte) (*Job, []string, error) {
	var object jobObject
	req := c.batch.Post().Namespace(namespace).Resource("jobs").
		SetHeader("Content-Type", "application/json").Body(manifest)
	warned, err := c.do(ctx, "create Job "+namespace+"/"+name, req, &object)
	if err != nil {
		return nil, warned, err
	}
	return object.job(), warned, nil
}

// Job reads one Job with all its labels and annotations. The error of a missing
// one is one of IsNotFound.
func (c *Client) Job(ctx context.Context, namespace, name string) (*Job, error) {
	var object jobObject
	req := c.batch.Get().Namespace(namespace).Resource("jobs").Name(name)
	if _, err := c.do(ctx, "get Job "+namespace+"/"+name, req, &object); err != nil {
		return nil, err
	}
	return object.job(), nil
}

// DeleteJob deletes exactly that Job, by its UID, and its pods first: the Job is
// gone when they are, and they get their grace period. A Job that is already gone,
// or whose name another Job has by now, is no error.
func (c *Client) DeleteJob(ctx context.Context, namespace, name, uid string) error {
	foreground := metav1.DeletePropagationForeground
	id := types.UID(uid)
	body, err := json.Marshal(metav1.DeleteOptions{
		TypeMeta:          metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"},
		PropagationPolicy: &foreground,
		Preconditions:     &metav1.Preconditions{UID: &id},
	})
	if err != nil {
		return fmt.Errorf("encode the deletion of Job %s/%s: %w", namespace, name, err)
	}
	req := c.batch.Delete().Namespace(namespace).Resource("jobs").Name(name).SetHeader("Content-Type", "application/json").Body(body)
	_, err = c.do(ctx, "delete Job "+namespace+"/"+name, req, nil)
	var e *Error
	if errors.As(err, &e) && (e.Kind == NotFound || e.Status == http.StatusConflict) {
		return nil
	}
	return err
}

// jobObject is the part of a Job's JSON that is read. A whole batchv1.Job takes ten
// times the memory: pod template, environment, managed fields.
type jobObject struct {
	Metadata struct {
		Namespace         string            `json:"namespace"`
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		Labels            map[string]string `json:"labels"`
		Annotations       map[string]string `json:"annotations"`
		CreationTimestamp metav1.Time       `json:"creationTimestamp"`
		DeletionTimestamp *metav1.Time      `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		Suspend bool `json:"suspend"`
	} `json:"spec"`
	Status batchv1.JobStatus `json:"status"`
}

func (o *jobObject) job() *Job {
	job := &Job{
		Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, UID: o.Metadata.UID,
		Labels: o.Metadata.Labels, Annotations: o.Metadata.Annotations,
		Created:   o.Metadata.CreationTimestamp.Time,
		Deleting:  o.Metadata.DeletionTimestamp != nil,
		Suspended: o.Spec.Suspend,
		Podless:   countsNoPod(&o.Status),
	}
	if o.Status.StartTime != nil {
		job.Started = o.Status.StartTime.Time
	}
	for _, condition := range o.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			continue
		}
		switch condition.Type {
		case batchv1.JobComplete:
			job.Complete, job.FinishedAt = true, condition.LastTransitionTime.Time
		case batchv1.JobFailed:
			job.Failed, job.FinishedAt = true, condition.LastTransitionTime.Time
			job.Reason, job.Message = condition.Reason, condition.Message
		}
	}
	return job
}

func countsNoPod(status *batchv1.JobStatus) bool {
	count := status.Active + status.Succeeded + status.Failed
	for _, n := range []*int32{status.Terminating, status.Ready} {
		if n != nil {
			count += *n
		}
	}
	if pods := status.UncountedTerminatedPods; pods != nil {
		count += int32(len(pods.Succeeded) + len(pods.Failed))
	}
	return count == 0
}
