package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"slipway/dispatch"
)

// passFlags override the settings of one pass.
type passFlags struct {
	report               reportFlags // of which work pools, and how
	workQueues, flowRuns []string
	lookAhead            time.Duration
	limit                int
	noSweep, shadow      bool
}

func dispatchCommand(p *process) *cobra.Command {
	var flags passFlags
	cmd := &cobra.Command{
		Use:   "dispatch",
		Short: "Make one pass: claim due flow runs, create their Jobs, end",
		Long: "One pass over each work pool: claim the flow runs that are due or nearly so, create a Job for each, report, end.\n" +
			"Run it once a minute (a CronJob), or whenever something may be due: passes may overlap, and a run gets one Job.\n\n" +
			"Exit codes: 0 done; 2 usage or settings; 3 some runs were refused for good; 4 a server could not be reached,\n" +
			"or work is left for the next trigger; 130 interrupted.",
		Args: noArguments,
	}
	flags.report.add(cmd, "work pool to serve", "text, or json: one object per work pool and line")
	f := cmd.Flags()
	f.StringArrayVar(&flags.workQueues, "work-queue", nil, "work queue to serve; may be repeated (SLIPWAY_WORK_QUEUES)")
	f.StringArrayVar(&flags.flowRuns, "flow-run", nil, "only this flow run, if it is due; may be repeated")
	f.BoolVar(&flags.noSweep, "no-sweep", false, "claim and submit only; leave repair to other passes")
	f.BoolVar(&flags.shadow, "shadow", false, "claim nothing: render what is due, and compare with the Jobs that a Python worker has made")
	f.DurationVar(&flags.lookAhead, "look-ahead", 0, "claim runs due within this time (SLIPWAY_LOOK_AHEAD)")
	f.IntVar(&flags.limit, "limit", 0, "the most runs submitted per work pool; 0 for no limit (SLIPWAY_LIMIT)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, d, err := p.start(cmd, func(cfg *Config) error { return flags.over(cmd, cfg) })
		if err != nil {
			return err
		}
		req := dispatch.Request{
			WorkPools: cfg.WorkPools, WorkQueues: cfg.WorkQueues, FlowRunIDs: flags.flowRuns,
			LookAhead: cfg.LookAhead, Limit: cfg.Limit, Sweep: !flags.noSweep,
		}
		if flags.shadow {
			return shadowPass(cmd.Context(), d, req, flags.report.output, cmd.OutOrStdout())
		}
		return onePass(cmd.Context(), d, req, flags.report.output, cmd.OutOrStdout())
	}
	return cmd
}

// over lays the flags over the settings, and checks them.
func (p *passFlags) over(cmd *cobra.Command, cfg *Config) error {
	if err := p.report.over(cfg, "text", "json"); err != nil {
		return err
	}
	if len(p.workQueues) > 0 {
		cfg.WorkQueues = p.workQueues
	}
	if cmd.Flags().Changed("look-ahead") {
		cfg.LookAhead = p.lookAhead
	}
	if cmd.Flags().Changed("limit") {
		cfg.Limit = p.limit
	}
	switch {
	case cfg.LookAhead < 0 || cfg.LookAhead > dispatch.MaxLookAhead:
		return &usageError{fmt.Sprintf("--look-ahead must be from 0 to %s", dispatch.MaxLookAhead)}
	case cfg.Limit < 0:
		return &usageError{"--limit must be at least 0"}
	}
	for _, id := range p.flowRuns {
		if _, err := uuid.Parse(id); err != nil {
			return &usageError{fmt.Sprintf("--flow-run %q is not a flow run id", id)}
		}
	}
	return nil
}

// shadowPass compares and changes nothing.
func shadowPass(ctx context.Context, d *dispatch.Dispatcher, req dispatch.Request, output string, out io.Writer) error {
	reports, err := d.Shadow(ctx, req)
	different := 0
	for _, r := range reports {
		different += r.Different + r.Refused
		if output == "json" {
			err = errors.Join(err, json.NewEncoder(out).Encode(r))
			continue
		}
		err = errors.Join(err, showShadow(out, r))
	}
	if err == nil && different > 0 {
		return &partial{exitRefused, fmt.Sprintf("%d flow runs differ", different)}
	}
	return err
}

func showShadow(out io.Writer, r dispatch.ShadowReport) error {
	var text strings.Builder
	for _, row := range r.Rows {
		if row.Fault == "" && len(row.Differences) == 0 {
			continue
		}
		fmt.Fprintf(&text, "flow run %s (%s) %s\n", row.Name, row.ID, row.Job)
		if row.Fault != "" {
			fmt.Fprintf(&text, "  Slipway would not submit it: %s\n", row.Fault)
		}
		for _, d := range row.Differences {
			fmt.Fprintf(&text, "  %s\n    Slipway: %s\n    worker:  %s\n", d.Path, d.Want, d.Have)
		}
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&text, "warning: %s\n", warning)
	}
	if r.Error != "" {
		fmt.Fprintf(&text, "shadow: %s\n", r.Error)
	}
	fmt.Fprintf(&text, "work pool %s, compared in shadow mode: %d Jobs of the worker equal, %d different; %d runs due, %d of them without a Job that Slipway can make\n",
		r.Pool, r.Equal, r.Different, r.Due, r.Refused)
	_, err := io.WriteString(out, text.String())
	return err
}

func onePass(ctx context.Context, d *dispatch.Dispatcher, req dispatch.Request, output string, out io.Writer) error {
	reports, err := d.Dispatch(ctx, req)
	show := showText
	if output == "json" {
		show = showJSON
	}
	for _, report := range reports {
		if printErr := show(out, report); printErr != nil {
			return errors.Join(err, printErr)
		}
	}
	if err != nil {
		return err
	}
	return unfinished(reports)
}

// unfinished is the error of passes that ended without one, and left runs undone.
func unfinished(reports []dispatch.Report) error {
	refused, left := 0, 0
	for _, r := range reports {
		refused += r.Refused
		left += r.Unclaimed + r.Unknown + r.Failed
		if r.Sweep != nil {
			left += r.Sweep.Failed
		}
	}
	switch {
	case left > 0:
		return &partial{exitLeft, fmt.Sprintf("%d flow runs are left for the next trigger", left)}
	case refused > 0:
		return &partial{exitRefused, fmt.Sprintf("%d flow runs were refused for good", refused)}
	default:
		return nil
	}
}

func showJSON(out io.Writer, report dispatch.Report) error {
	return json.NewEncoder(out).Encode(report)
}

func showText(out io.Writer, r dispatch.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(r.Runs) > 0 {
		_, _ = fmt.Fprintln(w, "OUTCOME\tFLOW RUN\tID\tJOB\tMS\tREASON")
	}
	for _, run := range r.Runs {
		job := run.Job
		if job != "" {
			job = run.Namespace + "/" + job
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", run.Outcome, run.Name, run.ID, job, run.Milliseconds, run.Reason)
		for _, warning := range run.Warnings {
			_, _ = fmt.Fprintf(w, "\t\t\t\t\twarning: %s\n", warning)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, warning := range r.Warnings {
		_, _ = fmt.Fprintf(out, "warning: %s\n", warning)
	}
	paused := ""
	if r.Paused {
		paused = " (paused)"
	}
	if r.Sweep != nil {
		if err := showSweep(out, *r.Sweep, false); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "work pool %s%s: %d found, %d submitted, %d duplicate, %d skipped, %d refused, %d unclaimed, %d unknown, %d failed in %d ms\n",
		r.Pool, paused, r.Found, r.Submitted, r.Duplicate, r.Skipped, r.Refused, r.Unclaimed, r.Unknown, r.Failed, r.Milliseconds)
	return err
}
