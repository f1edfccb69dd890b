package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"slipway/dispatch"
)

// passFlags override the settings of one pass.
type passFlags struct {
	workPools, workQueues, flowRuns []string
	output                          string
	noSweep, shadow                 bool
}

func dispatchCommand() *cobra.Command {
	var flags passFlags
	cmd := &cobra.Command{
		Use:   "dispatch",
		Short: "Make one pass: claim due flow runs, create their Jobs, end",
		Long: "One pass over each work pool: claim the flow runs that are due or nearly so, create a Job for each, report, end.\n" +
			"Run it once a minute (a CronJob), or whenever something may be due: passes may overlap, a run gets one Job.\n\n" +
			"Exit codes: 0 done; 2 usage or settings; 3 some runs were refused for good; 4 a server could not be reached,\n" +
			"or work is left for the next trigger; 130 interrupted.\n\n" + settingsHelp(),
		Args: noArguments,
	}
	f := cmd.Flags()
	f.StringArrayVar(&flags.workPools, "work-pool", nil, "work pool to serve; may be repeated (SLIPWAY_WORK_POOLS)")
	f.StringArrayVar(&flags.workQueues, "work-queue", nil, "work queue to serve; may be repeated (SLIPWAY_WORK_QUEUES)")
	f.StringArrayVar(&flags.flowRuns, "flow-run", nil, "only this flow run, if it is due; may be repeated")
	f.StringVarP(&flags.output, "output", "o", "text", "text, or json: one object per work pool and line")
	f.BoolVar(&flags.noSweep, "no-sweep", false, "claim and submit only; leave repairs to other passes")
	f.BoolVar(&flags.shadow, "shadow", false, "claim nothing: render what is due, and compare with the Jobs that a Python worker has made")
	lookAhead := f.Duration("look-ahead", 0, "claim runs due within this time (SLIPWAY_LOOK_AHEAD)")
	limit := f.Int("limit", 0, "the most runs submitted per work pool; 0 for no limit (SLIPWAY_LIMIT)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig()
		if err != nil {
			return err
		}
		if f.Changed("look-ahead") {
			cfg.LookAhead = *lookAhead
		}
		if f.Changed("limit") {
			cfg.Limit = *limit
		}
		req, err := flags.request(cfg)
		if err != nil {
			return err
		}
		d, err := wire(cfg, newLog(cfg, cmd.ErrOrStderr(), false))
		if err != nil {
			return err
		}
		if flags.shadow {
			return shadowPass(cmd.Context(), d, req, flags.output, cmd.OutOrStdout())
		}
		return onePass(cmd.Context(), d, req, flags.output, cmd.OutOrStdout())
	}
	return cmd
}

// request lays the flags over the settings.
func (p passFlags) request(cfg Config) (dispatch.Request, error) {
	req := dispatch.Request{
		WorkPools: cfg.WorkPools, WorkQueues: cfg.WorkQueues, FlowRunIDs: p.flowRuns,
		LookAhead: cfg.LookAhead, Limit: cfg.Limit, Sweep: !p.noSweep,
	}
	var err error
	if req.WorkPools, err = cfg.pools(p.workPools); err != nil {
		return req, err
	}
	if len(p.workQueues) > 0 {
		req.WorkQueues = p.workQueues
	}
	switch {
	case req.LookAhead < 0 || req.LookAhead > dispatch.MaxLookAhead:
		return req, &usageError{fmt.Sprintf("--look-ahead must be from 0 to %s", dispatch.MaxLookAhead)}
	case req.Limit < 0:
		return req, &usageError{"--limit must be at least 0"}
	case p.output != "text" && p.output != "json":
		return req, &usageError{"--output must be text or json"}
	}
	for _, id := range p.flowRuns {
		if _, err := uuid.Parse(id); err != nil {
			return req, &usageError{fmt.Sprintf("--flow-run %q is no flow run id", id)}
		}
	}
	return req, nil
}

// shadowPass compares and changes nothing.
func shadowPass(ctx context.Context, d *dispatch.Dispatcher, req dispatch.Request, output string, out io.Writer) error {
	reports, err := d.Shadow(ctx, req)
	apart := 0
	for _, r := range reports {
		apart += r.Different + r.Refused
		if output == "json" {
			err = errors.Join(err, json.NewEncoder(out).Encode(r))
			continue
		}
		err = errors.Join(err, showShadow(out, r))
	}
	if err == nil && apart > 0 {
		return &partial{exitRefused, fmt.Sprintf("%d flow runs differ", apart)}
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
		for _, one := range row.Differences {
			fmt.Fprintf(&text, "  %s\n    Slipway: %s\n    worker:  %s\n", one.Path, one.Want, one.Have)
		}
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&text, "warning: %s\n", warning)
	}
	if r.Error != "" {
		fmt.Fprintf(&text, "shadow: %s\n", r.Error)
	}
	fmt.Fprintf(&text, "work pool %s, in the shadow: %d Jobs of the worker equal, %d different; %d runs due, %d of them without a Job that Slipway can make\n",
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

// unfinished tells an exit code for passes that ended well with runs that did not.
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
