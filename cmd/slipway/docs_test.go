package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestSettingsDocumented holds docs/settings.md to what the program says. With
// UPDATE set it writes the file.
func TestSettingsDocumented(t *testing.T) {
	const path = "../../docs/settings.md"
	var b strings.Builder
	b.WriteString("# Settings\n\nSlipway reads its settings from the environment; flags override them. `slipway help settings` prints the same list.\n\n| setting | default | meaning |\n| --- | --- | --- |\n")
	for _, s := range settings() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.name, s.value, s.meaning)
	}
	b.WriteString("\nAll other `PREFECT_*` settings are handed on to the flow runs, as the Python worker does, and the settings\n`PREFECT_INTEGRATIONS_KUBERNETES_WORKER_*` of prefect-kubernetes that concern Secrets are obeyed.\n")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is out of date: run UPDATE=1 go test ./cmd/slipway -run TestSettingsDocumented", path)
	}
}
