package tests

import (
	"bytes"
	"testing"

	"slipway/e2e/world"
)

// TestWorldTwoClusters: two clusters serve one work pool, and neither sees the Jobs
// of the other: namespaces stand in for them. Both give back claims that are not
// Slipway's after a second. No run is taken from the other, and no claim.
func TestWorldTwoClusters(t *testing.T) {
	t.Parallel() // it mostly waits
	const pool, far = "clusters", "world-far"
	kubeconfig, err := w.Account(t.Context(), "slipway-far")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Allow(t.Context(), "slipway-far", far); err != nil {
		t.Fatal(err)
	}
	near := first(t, false, "SLIPWAY_CLUSTER=near", "SLIPWAY_NAMESPACE="+world.Namespace, "SLIPWAY_NAMESPACES="+world.Namespace, "SLIPWAY_FOREIGN_ORPHAN_GRACE=1s", "SLIPWAY_LIMIT=3")
	away := near.with("SLIPWAY_CLUSTER=far", "SLIPWAY_NAMESPACE="+far, "SLIPWAY_NAMESPACES="+far)
	away.kubeconfig = kubeconfig
	template, err := world.Template()
	if err != nil {
		t.Fatal(err)
	}
	// Without a namespace of its own: each dispatcher's default.
	template = bytes.Replace(template, []byte(`"default": "default"`), []byte(`"title": "Namespace"`), 1)
	d := near.poolOf(t, pool, template, map[string]any{"namespace": nil})
	until := newSignal(t)
	orphan := near.subject(t, kind{name: "orphan of the near cluster", attempts: 1, end: "COMPLETED"}, d, until)
	near.killedAt(t, makesJob, false, "dispatch", "--work-pool", pool)
	only := start(t, trigger{away, []string{pool}})
	only.more(t, 3)
	only.stop()
	if state := stateOf(t, orphan.id); state != "PENDING" {
		t.Errorf("the far cluster made the claim of the near one %s", state)
	}
	subjects := []*subject{orphan}
	for range copies(3) {
		for _, k := range kinds() {
			subjects = append(subjects, near.subject(t, k, d, until))
		}
	}
	come := start(t, trigger{near, []string{pool}}, trigger{away, []string{pool}})
	untilHeld(t, subjects)
	come.more(t, 3)
	until.give(t)
	untilEnded(t, subjects)
	come.more(t, 1)
	come.stop()
	judge(t, "two clusters, one work pool", pool+"-", 1, subjects, "")
	made := map[string]int{}
	for _, s := range subjects {
		for _, job := range jobsOf(t, s.id) {
			made[job[:3]]++
		}
	}
	if made[world.Namespace] == 0 || made[far[:3]] == 0 {
		t.Errorf("one of the two clusters had nothing to do: %v", made)
	}
}
