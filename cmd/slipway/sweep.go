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

func sweepCommand() *cobra.Command {
	var workPools []string
	var output string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Repair what was left behind: orphans, crashes, cancellations, leftovers",
		Long: "Looks at the active flow runs of each work pool and at their Jobs, and mends what nobody else will: makes the Job of a\n" +
			"claim whose dispatcher died, crashes runs whose Jobs failed or are gone, ends the pods of runs that are being cancelled,\n" +
			"and removes Jobs whose runs are over. Every `slipway dispatch` does the same after its claims, unless --no-sweep.\n\n" +
			"Exit codes: 0 done; 2 usage or settings; 4 a server could not be reached, or something is left to mend.\n\n" + settingsHelp(),
		Args: noArguments,
	}
	f := cmd.Flags()
	f.StringArrayVar(&workPools, "work-pool", nil, "work pool to look at; may be repeated (SLIPWAY_WORK_POOLS)")
	f.StringVarP(&output, "output", "o", "text", "text, wide (with what is left alone, and why), or json: one object per work pool and line")
	f.BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig()
		if err != nil {
			return err
		}
		if workPools, err = cfg.pools(workPools); err != nil {
			return err
		}
		if output != "text" && output != "wide" && output != "json" {
			return &usageError{"--output must be text, wide or json"}
		}
		d, err := wire(cfg, newLog(cfg, cmd.ErrOrStderr(), false))
		if err != nil {
			return err
		}
		reports, err := d.Sweep(cmd.Context(), dispatch.SweepRequest{WorkPools: workPools, DryRun: dryRun})
		return errors.Join(showSweeps(cmd.OutOrStdout(), reports, output), swept(reports, err))
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
		if _, err := fmt.Fprintf(out, "work pool %s: %d looked at, %d mended, %d failed\n", report.Pool, report.Looked, report.Mended, report.Failed); err != nil {
			return err
		}
	}
	return nil
}

// swept tells an exit code for sweeps that could not mend everything.
func swept(reports []dispatch.SweepReport, err error) error {
	failed := 0
	for _, r := range reports {
		failed += r.Failed
	}
	if err == nil && failed > 0 {
		return &partial{exitLeft, fmt.Sprintf("%d remedies are left for the next sweep", failed)}
	}
	return err
}

// showSweep prints the remedies, and with all what was left alone too.
func showSweep(out io.Writer, r dispatch.SweepReport, all bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := false
	for _, row := range r.Rows {
		if row.Remedy == dispatch.LeaveAlone && !all {
			continue
		}
		if !head {
			_, _ = fmt.Fprintln(w, "REMEDY\tDONE\tFLOW RUN\tID\tSTATE\tJOB\tREASON\tOUTCOME")
			head = true
		}
		_, _ = fmt.Fprintf(w, "%s\t%t\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Remedy, row.Done, row.Name, row.ID, row.State, row.Job, row.Reason, row.Outcome)
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
