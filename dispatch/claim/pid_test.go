package claim

import (
	"strings"
	"testing"
)

// TestPIDsOfNothing: a pid is a text that any client can write. One that can be no Job's
// names no place, and so no request is made of it.
func TestPIDsOfNothing(t *testing.T) {
	label, long := strings.Repeat("a", 63), strings.Repeat("a", 253)
	for pid, known := range map[string]bool{
		"dev:etl-x": true, "host:1234": true, label + ":" + long: true, "cluster:dev:etl.x": true,
		":": false, "dev:": false, ":etl": false, "a:b:c:d": false, "Dev:etl": false, "dev:ETL": false, "my host:1": false,
		"dev:../../../etl": false, "dev/x:etl": false, "dev:etl/status": false, "dev:etl?x=1": false, "dev:etl ": false, "-dev:etl": false, "dev:etl-": false, "dev.x:etl": false,
		label + "a:etl": false, "dev:" + long + "a": false, "dev:etl\n": false, "dev:%2e%2e": false, "host.example:1234": false, "c:dev:../x": false,
	} {
		if got := ParsePID(pid).Known(); got != known {
			t.Errorf("%q names a Job: %v, want %v", pid, got, known)
		}
	}
}

// TestMessagesOfNothing: so it is with the message of a claim's state, though it ends with
// the claim's hash.
func TestMessagesOfNothing(t *testing.T) {
	const id = "0b9e5d1c-7b1f-8a3e-9f00-0123456789ab"
	name := JobName("x-", id)
	for at, known := range map[string]bool{
		"dev/" + name: true,
		"../" + name:  false, "dev/../" + name: false, "dev/a/" + name: false, "Dev/" + name: false, "/" + name: false, name: false, "dev /" + name: false, "dev/A" + name: false,
	} {
		if got := PlaceOf(messagePrefix+at+".", id).Known(); got != known {
			t.Errorf("%q names a place: %v, want %v", at, got, known)
		}
	}
}
