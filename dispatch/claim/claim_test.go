package claim

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestClaimProvesItself(t *testing.T) {
	const cluster, run = "cluster-a", "11111111-1111-4111-8111-111111111111"
	seen := map[string]bool{}
	for range 1000 {
		id, err := NewID(cluster, run)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := uuid.Parse(id)
		if err != nil || parsed.Version() != 8 || parsed.Variant() != uuid.RFC4122 {
			t.Fatalf("%s is no UUIDv8", id)
		}
		if seen[id] {
			t.Fatalf("%s was drawn twice", id)
		}
		seen[id] = true
		if !Verify(cluster, run, id) || !Verify(cluster, strings.ToUpper(run), strings.ToUpper(id)) {
			t.Errorf("%s is not known as ours", id)
		}
		if Verify("cluster-b", run, id) || Verify(cluster, "22222222-2222-4222-8222-222222222222", id) || Verify(cluster, run, uuid.NewString()) || Verify(cluster, run, "") {
			t.Errorf("%s proves too much", id)
		}
	}
}

func TestJobName(t *testing.T) {
	long := strings.Repeat("a", 80) + "-"
	for _, base := range []string{"", "testset-", long} {
		name := JobName(base, "id")
		if len(name) > maxJobName || !strings.HasPrefix(name, base[:min(len(base), 53)]) {
			t.Errorf("base %q gives %q", base, name)
		}
		if name != JobName(base, "id") || name == JobName(base, "other") {
			t.Errorf("base %q: a name must follow from the claim", base)
		}
	}
}

// TestPlaces: pids of both versions and the claim's own message name the same place.
func TestPlaces(t *testing.T) {
	const id = "0b9e5d1c-7b1f-8a3e-9f00-0123456789ab"
	p := Place{"dev", JobName("etl-", id)}
	if ParsePID(p.PID()) != p || ParsePID(p.PID2("cluster-a")) != p || PlaceOf(Message(p), id) != p || PlaceOf(Message(p), strings.ToUpper(id)) != p {
		t.Errorf("%v: %v %v %v", p, ParsePID(p.PID()), ParsePID(p.PID2("cluster-a")), PlaceOf(Message(p), id))
	}
	for _, pid := range []string{"", "nonsense", "a:b:c:d"} {
		if ParsePID(pid).Known() {
			t.Errorf("%q names a Job", pid)
		}
	}
	// Somebody else's message, and one of another claim, name no place.
	for _, message := range []string{"", "Slipway submits Job dev/etl-other.", "Slipway submits Job nothing", "hello"} {
		if at := PlaceOf(message, id); at.Known() {
			t.Errorf("%q names %v", message, at)
		}
	}
}
