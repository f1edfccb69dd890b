package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"slipway/dispatch"
)

func sweepCommand(p *process) *cobra.Command {
	var flags reportFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Repair what was left behind: orphans, crashes, cancellations, leftovers",
		Long: "Looks at the active flow runs of each work pool and at their Jobs, and repairs what nobody else will: creates the Job of a\n" +
			"claim whose dispatcher died, crashes runs whose Jobs failed or are gone, ends the pods of runs that are being cancelled,\n" +
			"and deletes Jobs whose runs are over. Every `slipway dispatch` does the same after its claims, unless --no-sweep is given.\n\n" +
			"Exit codes: 0 done; 2 usage or settings; 4 a server could not be reached, or something is left to repair.",
		Args: noArguments,
	}
	flags.add(cmd, "work pool to look at", "text, wide (with what is left alone, and why), or json: one object per work pool and line")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, d, err := p.start(cmd, func(cfg *Config) error { return flags.over(cfg, "text", "wide", "json") })
		if err != nil {
			return err
		}
		reports, err := d.Sweep(cmd.Context(), dispatch.SweepRequest{WorkPools: cfg.WorkPools, DryRun: dryRun})
		return errors.Join(showSweeps(cmd.OutOrStdout(), reports, flags.output), swept(reports, err))
	}
	return cmd
}

func showSweeps(out io.Writer, reports []dispatch.SweepReport, output string) error {
	for _, report := range reports {
		if output == "json" {
			if err := json.NewEncoder(out).Encode(report); err != nil {
				return err
			}
			continue
		}
		if err := showSweep(out, report, output == "wide"); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "work pool %s: %d observed, %d repaired, %d failed\n", report.Pool, report.Observed, report.Repaired, report.Failed); err != nil {
			return err
		}
	}
	return nil
}

// swept is the error of sweeps that could not repair everything.
func swept(reports []dispatch.SweepReport, err error) error {
	failed := 0
	for _, r := range reports {
		failed += r.Failed
	}
	if err == nil && failed > 0 {
		return &partial{exitLeft, fmt.Sprintf("%d repairs are left for the next sweep", failed)}
	}
	return err
}

// showSweep prints the actions, and with all also what was left alone.
func showSweep(out io.Writer, r dispatch.SweepReport, all bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := false
	for _, row := range r.Rows {
		if row.Action == dispatch.LeaveAlone && !all {
			continue
		}
		if !head {
			_, _ = fmt.Fprintln(w, "ACTION\tDONE\tFLOW RUN\tID\tSTATE\tJOB\tREASON\tOUTCOME")
			head = true
		}
		_, _ = fmt.Fprintf(w, "%s\t%t\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Action, row.Done, row.Name, row.ID, row.State, row.Job, row.Reason, row.Outcome)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, warning := range r.Warnings {
		_, _ = fmt.Fprintf(out, "warning: sweep: %s\n", warning)
	}
	if r.Error != "" {
		_, _ = fmt.Fprintf(out, "sweep: %s\n", r.Error)
	}
	return nil
}
