package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Event is what the cluster says happened to an object.
type Event struct {
	Last    time.Time
	Count   int32 // how often
	Warning bool
	Reason  string
	Message string
}

func (e Event) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s (%d times): %s", e.Last.UTC().Format(time.TimeOnly), e.Reason, e.Count, e.Message))
}

// mostEvents is more than a pod or a Job has: equal ones are counted in one.
const mostEvents = "200"

// Events reads those of one Job or Pod, the oldest first. Kubernetes keeps them
// for an hour.
func (c *Client) Events(ctx context.Context, namespace, kind, name string) ([]Event, error) {
	var list corev1.EventList
	req := c.core.Get().Namespace(namespace).Resource("events").Param("limit", mostEvents).
		Param("fieldSelector", "involvedObject.kind="+kind+",involvedObject.name="+name)
	if _, err := c.do(ctx, "list the events of "+kind+" "+namespace+"/"+name, req, &list); err != nil {
		return nil, err
	}
	events := make([]Event, 0, len(list.Items))
	for _, item := range list.Items {
		e := Event{Last: item.LastTimestamp.Time, Count: max(item.Count, 1), Warning: item.Type == corev1.EventTypeWarning, Reason: item.Reason, Message: item.Message}
		if e.Last.IsZero() {
			e.Last = item.EventTime.Time
		}
		if item.Series != nil {
			e.Last, e.Count = item.Series.LastObservedTime.Time, item.Series.Count
		}
		events = append(events, e)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return a.Last.Compare(b.Last) })
	return events, nil
}

// Podless reads from a Job's events why it gets no pod; nil if nothing tells.
func Podless(events []Event) *Diagnosis {
	for _, e := range slices.Backward(events) {
		if !e.Warning || e.Reason != "FailedCreate" {
			continue
		}
		d := &Diagnosis{Category: PodsRefused, Words: e.Message}
		for _, words := range passing {
			if strings.Contains(e.Message, words) {
				d.Category = QuotaExceeded
			}
		}
		d.Advice = advice[d.Category]
		return d
	}
	return nil
}
