package prefect

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// ScheduledRequest bounds a poll.
type ScheduledRequest struct {
	WorkQueueNames  []string  // none: every queue of the pool
	ScheduledBefore time.Time // inclusive; never left out: without it the poll has no bound
	ScheduledAfter  *time.Time
}

// Poll is what a poll has brought.
type Poll struct {
	Runs     []FlowRun // by queue priority, then by start time
	Full     bool      // there may be more behind them: the page held no more
	Answered time.Time // when the answer had been read, by Options.Now
}

// ScheduledFlowRuns polls the runs that are due, one page of them. The server
// applies pauses and the limits of pool and queues here and nowhere else. Runs have
// their Raw, without the parameters where it is larger than 32 KiB.
func (c *Client) ScheduledFlowRuns(ctx context.Context, pool string, r ScheduledRequest) (*Poll, error) {
	body := map[string]any{
		"work_queue_names": append([]string{}, r.WorkQueueNames...),
		"scheduled_before": Timestamp(r.ScheduledBefore),
	}
	if r.ScheduledAfter != nil {
		body["scheduled_after"] = Timestamp(*r.ScheduledAfter)
	}
	type item struct {
		FlowRun polledRun `json:"flow_run"`
	}
	items, full, err := readPage[item](ctx, c, call{
		op: "poll work pool " + pool, method: http.MethodPost,
		path: "/work_pools/" + seg(pool) + "/get_scheduled_flow_runs",
	}, body, 0)
	if err != nil {
		return nil, err
	}
	poll := &Poll{Runs: make([]FlowRun, len(items)), Full: full, Answered: c.now()}
	for i := range items {
		poll.Runs[i] = FlowRun(items[i].FlowRun)
	}
	return poll, nil
}

// maxPolledBytes is how large a polled run's document may be without being trimmed.
// It is large enough for usual parameters, and 200 such documents are 6.4 MB.
const maxPolledBytes = 32 << 10

// polledRun is a flow run of a poll.
type polledRun FlowRun

// UnmarshalJSON keeps the document, without the parameters where it is large.
func (r *polledRun) UnmarshalJSON(data []byte) error {
	type fields polledRun
	if err := json.Unmarshal(data, (*fields)(r)); err != nil {
		return err
	}
	if r.State != nil {
		r.State.Raw = nil // it is in the document
	}
	if len(data) > maxPolledBytes {
		r.Raw, r.Trimmed = withoutMember(data, "parameters")
		return nil
	}
	r.Raw = bytes.Clone(data)
	return nil
}

// withoutMember copies the text of a JSON object without a member of it; every
// other byte stays, and with it the order of keys and the spelling of numbers. found
// tells whether there was such a member. An object without it is copied whole.
func withoutMember(object []byte, key string) (rest []byte, found bool) {
	d := json.NewDecoder(bytes.NewReader(object))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return bytes.Clone(object), false
	}
	first := true           // no member is kept yet
	open := d.InputOffset() // behind {
	kept := open            // up to here the text is copied, or cut
	rest = append(rest, object[:open]...)
	for d.More() {
		name, err := d.Token()
		var value skipped
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return bytes.Clone(object), false
		}
		member := object[kept:d.InputOffset()]
		kept = d.InputOffset()
		switch {
		case name == key:
			found = true
			continue
		case first && found:
			// The comma before it parted it from what was cut.
			member = bytes.TrimPrefix(bytes.TrimLeft(member, " \t\r\n"), []byte(","))
		}
		first = false
		rest = append(rest, member...)
	}
	return append(rest, object[kept:]...), found
}

// skipped is a value that nobody reads.
type skipped struct{}

// UnmarshalJSON keeps nothing.
func (*skipped) UnmarshalJSON([]byte) error { return nil }
