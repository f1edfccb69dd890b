package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway/dispatch"
)

func doctorCommand() *cobra.Command {
	var workPools []string
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what a pass needs, and say what mends it",
		Long: "Checks settings, both servers, clocks, the work pools with the Jobs of their deployments, Slipway's rights in each namespace that\n" +
			"they use, service accounts and image pull secrets, the heartbeat, and other workers. It changes nothing.\n\n" +
			"Exit codes: 0 nothing fails; 2 usage or settings; 3 something fails, and a line says what mends it.\n\n" + settingsHelp(),
		Args: noArguments,
	}
	cmd.Flags().StringArrayVar(&workPools, "work-pool", nil, "work pool to look at; may be repeated (SLIPWAY_WORK_POOLS)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig()
		if err != nil {
			return err
		}
		if workPools, err = cfg.pools(workPools); err != nil {
			return err
		}
		if output != "text" && output != "json" {
			return &usageError{"--output must be text or json"}
		}
		d, err := wire(cfg, newLog(cfg, cmd.ErrOrStderr(), false))
		if err != nil {
			return err
		}
		return showChecks(cmd.OutOrStdout(), d.Doctor(cmd.Context(), workPools), output)
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
		if c.Mend != "" {
			if _, err := fmt.Fprintf(out, "      -> %s\n", c.Mend); err != nil {
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
