package clock

import (
	"net/http"
	"testing"
	"time"
)

func TestSkew(t *testing.T) {
	here := time.Date(2026, 1, 2, 3, 4, 5, 700e6, time.UTC)
	for _, c := range []struct {
		name          string
		server, took  time.Duration // the server's clock against ours; of the request
		least, atMost time.Duration
	}{
		{"the same", 0, 10 * time.Millisecond, 0, 0},
		{"a second is none", time.Second, 10 * time.Millisecond, 0, 0},
		{"minutes ahead", 5 * time.Minute, 10 * time.Millisecond, 5*time.Minute - time.Second, 5*time.Minute + time.Second},
		{"minutes behind", -5 * time.Minute, time.Second, -5*time.Minute - time.Second, -5*time.Minute + time.Second},
		{"a slow answer tells nothing", 5 * time.Minute, 3 * time.Second, 0, 0},
	} {
		var k Clock
		k.see(here.Add(c.server+c.took/2).Format(http.TimeFormat), here, here.Add(c.took))
		if got := k.Skew(); got < c.least || got > c.atMost {
			t.Errorf("%s: %s, want between %s and %s", c.name, got, c.least, c.atMost)
		}
	}
}
