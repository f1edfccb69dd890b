package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// Event is an event of the cluster about one object. Kubernetes counts equal events
// in one.
type Event struct {
	First   time.Time // when it happened first; zero: not known
	Last    time.Time // when it happened last
	Count   int32     // how often it happened
	Warning bool      // its type is Warning, not Normal
	Reason  string
	Message string
}

func (e Event) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s (%d times): %s", e.Last.UTC().Format(time.TimeOnly), e.Reason, e.Count, e.Message))
}

// Events reads the events of one object of a kind ("Job", "Pod"), the oldest Last
// first. Kubernetes keeps events for an hour.
func (c *Client) Events(ctx context.Context, namespace, kind, name string) ([]Event, error) {
	return c.eventsOf(ctx, namespace, kind, name, "")
}

// eventsOf reads the events of one object. With a UID, it leaves out those of an
// earlier object of the same name.
func (c *Client) eventsOf(ctx context.Context, namespace, kind, name, uid string) ([]Event, error) {
	fields := "involvedObject.kind=" + kind + ",involvedObject.name=" + name
	if uid != "" {
		fields += ",involvedObject.uid=" + uid
	}
	request := func() *rest.Request {
		return withSelectors(c.core.Get().Namespace(namespace).Resource("events"), "", fields)
	}
	var events []Event
	err := again(func() error {
		events = nil
		return eachItem(ctx, c, "list the events of "+kind+" "+namespace+"/"+name, pageSize, request, eventOf,
			func(e Event) { events = append(events, e) })
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(events, func(a, b Event) int { return a.Last.Compare(b.Last) })
	return events, nil
}

// eventOf reads both forms of an event: the older has firstTimestamp, lastTimestamp
// and count; the newer has eventTime, and a series once it is repeated.
func eventOf(item *corev1.Event) Event {
	e := Event{
		First: item.FirstTimestamp.Time, Last: item.LastTimestamp.Time, Count: max(item.Count, 1),
		Warning: item.Type == corev1.EventTypeWarning, Reason: item.Reason, Message: item.Message,
	}
	if e.First.IsZero() {
		e.First = item.EventTime.Time
	}
	if item.Series != nil {
		e.Last, e.Count = item.Series.LastObservedTime.Time, item.Series.Count
	}
	if e.Last.IsZero() {
		e.Last = e.First
	}
	if e.First.IsZero() {
		e.First = e.Last
	}
	return e
}
