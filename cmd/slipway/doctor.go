package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway/dispatch"
)

func doctorCommand(p *process) *cobra.Command {
	var flags reportFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what a pass needs, and say how to fix what fails",
		Long: "Checks settings, both servers, clocks, the work pools with the Jobs of their deployments, Slipway's rights in each namespace that\n" +
			"they use, service accounts and image pull secrets, the heartbeat, and other workers. It changes nothing.\n\n" +
			"Exit codes: 0 nothing fails; 2 usage or settings; 3 a check fails, and a line says how to fix it.",
		Args: noArguments,
	}
	flags.add(cmd, "work pool to check", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, d, err := p.start(cmd, func(cfg *Config) error { return flags.over(cfg, "text", "json") })
		if err != nil {
			return err
		}
		return showChecks(cmd.OutOrStdout(), d.Doctor(cmd.Context(), cfg.WorkPools), flags.output)
	}
	return cmd
}

func showChecks(out io.Writer, checks []dispatch.Check, output string) error {
	failed := 0
	for _, c := range checks {
		if c.Level == dispatch.Fail {
			failed++
		}
		if output == "json" {
			continue
		}
		if _, err := fmt.Fprintf(out, "%-4s  %s: %s\n", c.Level, c.About, c.Found); err != nil {
			return err
		}
		if c.Fix != "" {
			if _, err := fmt.Fprintf(out, "      -> %s\n", c.Fix); err != nil {
				return err
			}
		}
	}
	if output == "json" {
		if err := json.NewEncoder(out).Encode(checks); err != nil {
			return err
		}
	}
	if failed > 0 {
		return &partial{exitRefused, fmt.Sprintf("%d checks fail", failed)}
	}
	return nil
}
