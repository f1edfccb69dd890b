package automations

import (
	"encoding/json"
	"testing"
	"time"
)

func TestMake(t *testing.T) {
	all := Make(Options{Name: "slipway", WorkPools: []string{"a", "b"}, Kinds: Kinds, Tick: 30 * time.Second, BlockID: "block"})
	names := map[string]Doc{}
	for _, one := range all {
		names[one["name"].(string)] = one
	}
	if len(all) != 7 || len(names) != 7 {
		t.Fatalf("%d automations of %d names", len(all), len(names))
	}
	trigger := names["slipway: scheduled in a"]["trigger"].(Doc)
	for _, event := range trigger["expect"].([]any) {
		if event == "prefect.flow-run.*" || event == "prefect.flow-run.AwaitingConcurrencySlot" {
			t.Errorf("%v triggers a pass: it loops", event)
		}
	}
	if only := Make(Options{Name: "other", WorkPools: []string{"a"}, Kinds: []Kind{Tick}, Tick: 10 * time.Second}); len(only) != 1 || only[0]["trigger"].(Doc)["within"] != 10 || only[0]["name"] != "other: tick" {
		t.Errorf("%v", only)
	}
}

// TestSame: what the server adds makes no difference, what it lacks does.
func TestSame(t *testing.T) {
	wanted := Make(Options{WorkPools: []string{"a"}, Kinds: []Kind{Scheduled}, BlockID: "block"})[0]
	data, err := json.Marshal(wanted)
	if err != nil {
		t.Fatal(err)
	}
	var stored Doc
	if err := json.Unmarshal(data, &stored); err != nil {
		t.Fatal(err)
	}
	stored["id"] = "1"
	trigger := stored["trigger"].(Doc)
	trigger["id"], trigger["within"] = "2", 0.0
	expect := trigger["expect"].([]any)
	expect[0], expect[1] = expect[1], expect[0]
	if !Same(wanted, stored) {
		t.Error("what the server adds, and its order of a set, makes a difference")
	}
	for name, change := range map[string]func(){
		"disabled":  func() { stored["enabled"] = false },
		"no action": func() { stored["actions"] = []any{} },
		"an event":  func() { trigger["expect"] = expect[1:] },
	} {
		before, _ := json.Marshal(stored)
		change()
		if Same(wanted, stored) {
			t.Errorf("%s makes no difference", name)
		}
		_ = json.Unmarshal(before, &stored)
		trigger = stored["trigger"].(Doc)
	}
}

func TestCalls(t *testing.T) {
	var stored Doc
	if err := json.Unmarshal([]byte(`{"actions": [{"type": "do-nothing"}], "actions_on_resolve": [{"type": "call-webhook", "block_document_id": "1"}]}`), &stored); err != nil {
		t.Fatal(err)
	}
	if !Calls(stored, "1") || Calls(stored, "2") || Calls(Doc{}, "1") {
		t.Error("which block an automation calls is not seen")
	}
}
