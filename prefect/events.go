package prefect

import (
	"context"
	"net/http"
	"time"
)

// Event is one of Prefect's event system, which 3.x has.
type Event struct {
	ID       string            `json:"id"` // the server keeps the first event of an id
	Occurred time.Time         `json:"occurred"`
	Event    string            `json:"event"`
	Resource map[string]string `json:"resource"` // with prefect.resource.id
	Related  []RelatedResource `json:"related"`
	Payload  struct{}          `json:"payload"`
}

// RelatedResource has at least prefect.resource.id and prefect.resource.role.
type RelatedResource map[string]string

// CreateEvents emits events, in requests of bounded size as CreateLogs does.
func (c *Client) CreateEvents(ctx context.Context, events []Event) error {
	return postAll(ctx, c, "emit events", "/events", events)
}

// HasEvent tells whether an event of that id is among the newest 50 of a resource
// since a time.
func (c *Client) HasEvent(ctx context.Context, id, resource string, since time.Time) (bool, error) {
	found, err := do[struct {
		Events []struct {
			ID string `json:"id"`
		} `json:"events"`
	}](ctx, c, call{op: "read the events of " + resource, method: http.MethodPost, path: "/events/filter", body: map[string]any{
		"filter": map[string]any{
			"occurred": map[string]any{"since": Timestamp(since)},
			"resource": map[string]any{"id": []string{resource}},
		},
		"limit": 50,
	}})
	if err != nil {
		return false, err
	}
	for _, e := range found.Events {
		if e.ID == id {
			return true, nil
		}
	}
	return false, nil
}
