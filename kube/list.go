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

// JobStatus is a Job as a list shows it.
type JobStatus struct {
	Namespace   string
	Name        string
	UID         string
	Labels      map[string]string
	Annotations map[string]string
	Created     time.Time
	Complete    bool      // succeeded
	Failed      bool      // for good: no pod will follow
	Reason      string    // of the failure: BackoffLimitExceeded, DeadlineExceeded, ...
	Message     string    // of the failure
	FinishedAt  time.Time // zero: it has not ended
	Deleting    bool
	Podless     bool // it has no pod, and has had none
}

// pageOfJobs bounds one answer; a Job is about 5 kB.
const pageOfJobs = 500

// Jobs lists all Jobs that a label selector finds in a namespace, or in all (""),
// page by page. An error means that the list is not whole.
func (c *Client) Jobs(ctx context.Context, namespace, selector string) ([]JobStatus, error) {
	where := "namespace " + namespace
	if namespace == "" {
		where = "all namespaces"
	}
	var all []JobStatus
	next := ""
	for {
		var page batchv1.JobList
		req := c.batch.Get().Resource("jobs").Param("labelSelector", selector).Param("limit", fmt.Sprint(pageOfJobs))
		if namespace != "" {
			req = req.Namespace(namespace)
		}
		if next != "" {
			req = req.Param("continue", next)
		}
		if _, err := c.do(ctx, "list Jobs in "+where, req, &page); err != nil {
			return nil, err
		}
		for i := range page.Items {
			all = append(all, statusOf(&page.Items[i]))
		}
		if next = page.Continue; next == "" {
			return all, nil
		}
	}
}

func statusOf(job *batchv1.Job) JobStatus {
	s := JobStatus{
		Namespace: job.Namespace, Name: job.Name, UID: string(job.UID), Labels: job.Labels, Annotations: job.Annotations,
		Created: job.CreationTimestamp.Time, Deleting: job.DeletionTimestamp != nil,
		Podless: job.Status.Active+job.Status.Succeeded+job.Status.Failed == 0,
	}
	for _, condition := range job.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			continue
		}
		switch condition.Type {
		case batchv1.JobComplete:
			s.Complete, s.FinishedAt = true, condition.LastTransitionTime.Time
		case batchv1.JobFailed:
			s.Failed, s.FinishedAt = true, condition.LastTransitionTime.Time
			s.Reason, s.Message = condition.Reason, condition.Message
		}
	}
	return s
}

// DeleteJob deletes exactly that Job, by its UID, and its pods first: the Job is
// gone when they are, and they get their grace period. A Job that is gone, or
// that gave its name to another, is no error.
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
