package dispatch

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestClaimProvesItself(t *testing.T) {
	const cluster, run = "cluster-a", "11111111-1111-4111-8111-111111111111"
	seen := map[string]bool{}
	for range 1000 {
		id, err := NewClaimID(cluster, run)
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
		if !IsClaim(cluster, run, id) || !IsClaim(cluster, strings.ToUpper(run), strings.ToUpper(id)) {
			t.Errorf("%s is not known as ours", id)
		}
		if IsClaim("cluster-b", run, id) || IsClaim(cluster, "22222222-2222-4222-8222-222222222222", id) || IsClaim(cluster, run, uuid.NewString()) || IsClaim(cluster, run, "") {
			t.Errorf("%s proves too much", id)
		}
	}
}

func TestJobName(t *testing.T) {
	long := strings.Repeat("a", 80) + "-"
	for _, base := range []string{"", "testset-", long} {
		name := jobName(base, "id")
		if len(name) > maxJobName || !strings.HasPrefix(name, base[:min(len(base), 53)]) {
			t.Errorf("base %q gives %q", base, name)
		}
		if name != jobName(base, "id") || name == jobName(base, "other") {
			t.Errorf("base %q: a name must follow from the claim", base)
		}
	}
}

// TestClaimAge: a clock that is set back, and one that slept, both age a claim.
func TestClaimAge(t *testing.T) {
	now := time.Now()
	c := claim{at: now}
	if age := c.age(now.Add(10 * time.Second)); age != 10*time.Second {
		t.Errorf("age %s", age)
	}
	// Without a monotonic reading only the wall clock counts.
	if age := c.age(now.Add(time.Hour).Round(0)); age < 59*time.Minute {
		t.Errorf("age %s after an hour of the wall clock", age)
	}
}
