// Package automations describes how a Prefect server triggers passes of Slipway: by a
// webhook block, and by automations that call it. It is pure; package prefect writes
// them.
package automations

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Kind is a reason to trigger a pass.
type Kind string

const (
	Scheduled  Kind = "scheduled"  // a run was created by hand, is late, is to be retried or resumed
	Cancelling Kind = "cancelling" // a run is to be cancelled
	Ended      Kind = "ended"      // a run has ended, which may free a slot for another
	Tick       Kind = "tick"       // an interval has passed: a run of a schedule emits no event in time
)

// Kinds lists all kinds.
var Kinds = []Kind{Scheduled, Cancelling, Ended, Tick}

// MinTick is the least interval that the server takes for a proactive trigger (Prefect
// 3.8).
const MinTick = 10 * time.Second

// Doc is a JSON object.
type Doc = map[string]any

// Options say which automations are wanted.
type Options struct {
	Name      string // of the webhook block, with which the automations' names begin
	WorkPools []string
	Kinds     []Kind
	Tick      time.Duration // interval of the automation of kind Tick; at least MinTick
	BlockID   string        // of the webhook block
}

// Block is the data of the webhook block. The server keeps url and headers secret.
func Block(url, token string) Doc {
	headers := Doc{"Content-Type": "application/json"}
	if token != "" {
		headers["Authorization"] = "Bearer " + token
	}
	return Doc{"method": "POST", "url": url, "headers": headers, "allow_private_urls": true, "verify": true}
}

// TickName is the name of the automation of kind Tick, which all work pools share.
func TickName(block string) string { return block + ": tick" }

// name is that of a work pool's automation. Prefect lets several automations have one
// name; Slipway finds its own by name.
func (o Options) name(kind Kind, pool string) string {
	if kind == Tick {
		return TickName(o.Name)
	}
	return fmt.Sprintf("%s: %s in %s", o.Name, kind, pool)
}

// Make lists the automations as POST /automations/ and
// `prefect automation create --from-file` take them.
func Make(o Options) []Doc {
	var all []Doc
	for _, pool := range o.WorkPools {
		for _, kind := range []Kind{Scheduled, Cancelling, Ended} {
			if slices.Contains(o.Kinds, kind) {
				all = append(all, ofRuns(o, kind, pool))
			}
		}
	}
	if slices.Contains(o.Kinds, Tick) {
		all = append(all, tick(o))
	}
	return all
}

// The states by name where only some of a type are meant. AwaitingConcurrencySlot
// is not among them: a pass that finds no slot leaves the run in it, and would
// trigger the next pass.
var states = map[Kind]struct {
	types  []any
	events []any
}{
	Scheduled:  {[]any{"SCHEDULED"}, []any{"prefect.flow-run.AwaitingRetry", "prefect.flow-run.Late", "prefect.flow-run.Resuming", "prefect.flow-run.Scheduled"}},
	Cancelling: {[]any{"CANCELLING"}, []any{"prefect.flow-run.*"}},
	Ended:      {[]any{"CANCELLED", "COMPLETED", "CRASHED", "FAILED"}, []any{"prefect.flow-run.*"}},
}

func ofRuns(o Options, kind Kind, pool string) Doc {
	return automation(o.name(kind, pool), o.BlockID, pool, Doc{
		"type": "event", "posture": "Reactive",
		"match":         Doc{"prefect.resource.id": []any{"prefect.flow-run.*"}, "prefect.state-type": states[kind].types},
		"match_related": Doc{"prefect.resource.role": []any{"work-pool"}, "prefect.resource.name": []any{pool}},
		"expect":        states[kind].events,
		"threshold":     1,
		// Each event counts: with a window the server drops all that come in it.
		"within": 0,
	})
}

// tick expects an event that never happens, and so fires after each interval.
func tick(o Options) Doc {
	return automation(o.name(Tick, ""), o.BlockID, "", Doc{
		"type": "event", "posture": "Proactive",
		"match":  Doc{"prefect.resource.id": []any{"slipway.tick"}},
		"expect": []any{"slipway.never"}, "threshold": 1, "within": int(o.Tick.Seconds()),
	})
}

// automation calls the webhook with the pool's name. The payload takes nothing from
// the event: its objects may not be committed yet when it is sent.
func automation(name, block, pool string, trigger Doc) Doc {
	payload := "{}"
	if pool != "" {
		quoted, _ := json.Marshal(pool) // a text always has its JSON
		payload = `{"pool": ` + string(quoted) + "}"
	}
	return Doc{
		"name": name, "description": "Triggers passes of Slipway. Made by `slipway automations`.", "enabled": true,
		"trigger": trigger,
		"actions": []any{Doc{"type": "call-webhook", "block_document_id": block, "payload": payload}},
	}
}

// Same tells whether a stored automation has all that is wanted. Members that the
// server adds do not count, nor does the order of a list.
func Same(wanted, stored any) bool {
	switch want := wanted.(type) {
	case Doc:
		have, ok := stored.(Doc)
		if !ok {
			return false
		}
		for key, value := range want {
			if !Same(value, have[key]) {
				return false
			}
		}
		return true
	case []any:
		have, ok := stored.([]any)
		if !ok { // one text stands for a list of it
			return len(want) == 1 && Same(want[0], stored)
		}
		return len(want) == len(have) && !slices.ContainsFunc(want, func(w any) bool {
			return !slices.ContainsFunc(have, func(h any) bool { return Same(w, h) })
		})
	case int:
		have, ok := stored.(float64)
		return ok && float64(want) == have
	}
	return wanted == stored
}

// Calls tells whether an automation, as the server stores it, calls the webhook of a
// block.
func Calls(stored Doc, block string) bool {
	for _, list := range []string{"actions", "actions_on_trigger", "actions_on_resolve"} {
		actions, _ := stored[list].([]any)
		if slices.ContainsFunc(actions, func(action any) bool {
			doc, _ := action.(Doc)
			return doc["block_document_id"] == block
		}) {
			return true
		}
	}
	return false
}
