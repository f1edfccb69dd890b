package submit

import (
	"testing"
	"time"
)

// TestClaimAge: a clock that is set back, and one that slept, both age a claim.
func TestClaimAge(t *testing.T) {
	now := time.Now()
	c := Claim{Began: now}
	if age := c.Age(now.Add(10 * time.Second)); age != 10*time.Second {
		t.Errorf("age %s", age)
	}
	// Without a monotonic reading only the wall clock counts.
	if age := c.Age(now.Add(time.Hour).Round(0)); age < 59*time.Minute {
		t.Errorf("age %s after an hour of the wall clock", age)
	}
}
