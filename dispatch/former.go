package dispatch

import (
	"encoding/json"

	"slipway/prefect"
)

// formerState is a state that is proposed again.
type formerState prefect.State

// proposal keeps what a state says and drops what the server gives it anew.
func (s *formerState) proposal() json.RawMessage {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(s.Raw, &whole); err != nil {
		return state(s.Type, s.Name, s.Message, nil)
	}
	kept := map[string]json.RawMessage{}
	for _, key := range []string{"type", "name", "message", "data", "state_details"} {
		if value, ok := whole[key]; ok {
			kept[key] = value
		}
	}
	body, err := json.Marshal(kept)
	if err != nil {
		panic(err) // it was JSON a moment ago
	}
	return body
}
