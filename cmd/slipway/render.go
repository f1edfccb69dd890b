package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"slipway/dispatch"
	"slipway/internal/redact"
	"slipway/kube"
	"slipway/render"
)

// renderFlags say whose Job is rendered and what is told of it.
type renderFlags struct {
	pool, deployment, flowRun         string
	file, template, variables         string
	output                            string
	explain, diff, serverDryRun, lint bool
}

func renderCommand(p *process) *cobra.Command {
	var flags renderFlags
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print the Job of a flow run or deployment, and change nothing",
		Long: "Prints the Job exactly as a pass would submit it, for a flow run, for a deployment, or offline from files.\n\n" +
			"  slipway render --deployment repo-info/demo --lint\n" +
			"  slipway render --flow-run 6f9d5e3a-... --diff\n" +
			"  slipway render --base-job-template template.json --job-variables variables.yaml\n\n" +
			"Exit codes: 0 done; 2 usage or settings; 3 there is no such Job, the API server would refuse it (--server-dry-run),\n" +
			"it differs (--diff) or --lint found something; 4 a server could not be reached.\n\n" +
			"Secrets of the settings and of blocks are printed as ********.",
		Args: noArguments,
	}
	f := cmd.Flags()
	f.StringVar(&flags.pool, "pool", "", "work pool whose base job template is filled; else that of the run or deployment")
	f.StringVar(&flags.deployment, "deployment", "", "deployment, as flow/deployment or by id")
	f.StringVar(&flags.flowRun, "flow-run", "", "flow run, by id")
	f.StringVar(&flags.file, "file", "", "offline: JSON or YAML with work_pool or base_job_template, deployment, flow_run, flow")
	f.StringVar(&flags.template, "base-job-template", "", "offline: base job template, JSON or YAML")
	f.StringVar(&flags.variables, "job-variables", "", "offline: job variables of the deployment, JSON or YAML")
	f.StringVarP(&flags.output, "output", "o", "yaml", "yaml or json")
	f.BoolVar(&flags.explain, "explain", false, "say of each value where it comes from: template, pool default, deployment, flow run or worker")
	f.BoolVar(&flags.diff, "diff", false, "compare with the Job in the cluster of that flow run, but for what the API server adds")
	f.BoolVar(&flags.serverDryRun, "server-dry-run", false, "ask the API server whether it would take the Job, and what it would prune")
	f.BoolVar(&flags.lint, "lint", false, "name what is probably a mistake")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return flags.run(p, cmd) }
	return cmd
}

// check refuses combinations that mean nothing.
func (r renderFlags) check() error {
	live := r.deployment != "" || r.flowRun != ""
	offline := r.file != "" || r.template != ""
	switch {
	case r.output != "yaml" && r.output != "json":
		return &usageError{"--output must be yaml or json"}
	case live == offline:
		return &usageError{"name either a --flow-run or a --deployment, or else a --file or a --base-job-template"}
	case r.file != "" && (r.template != "" || r.variables != ""):
		return &usageError{"--file holds everything: leave --base-job-template and --job-variables out"}
	case r.variables != "" && r.template == "":
		return &usageError{"--job-variables fills a --base-job-template: name that too"}
	case r.diff && r.flowRun == "":
		return &usageError{"--diff compares with the Job of a --flow-run: name it"}
	}
	if _, err := uuid.Parse(r.flowRun); r.flowRun != "" && err != nil {
		return &usageError{fmt.Sprintf("--flow-run %q is not a flow run id", r.flowRun)}
	}
	return nil
}

func (r renderFlags) run(p *process, cmd *cobra.Command) error {
	if err := r.check(); err != nil {
		return err
	}
	if r.file != "" || r.template != "" {
		return r.offline(p, cmd)
	}
	_, d, err := p.start(cmd, func(*Config) error { return nil })
	if err != nil {
		return err
	}
	i, err := d.Inspect(cmd.Context(), dispatch.Subject{WorkPool: r.pool, Deployment: r.deployment, FlowRun: r.flowRun})
	if err != nil {
		return noJob(err)
	}
	return r.show(cmd.Context(), cmd.OutOrStdout(), p.redactor, d, i)
}

// noJob tells a user's error in the template from all others.
func noJob(err error) error {
	var fault *render.Fault
	if errors.As(err, &fault) {
		return &partial{exitRefused, "there is no such Job: " + fault.Error()}
	}
	return err
}

// offline renders from files, with no server but the API server for a dry run. The
// settings that it needs are few, and the others may be missing or wrong.
func (r renderFlags) offline(p *process, cmd *cobra.Command) error {
	cfg, _, _ := p.settings(cmd, false)
	read, err := r.read()
	if err != nil {
		return &usageError{err.Error()}
	}
	i, err := read.inspect(cfg.RenderAs, p.redactor)
	if err != nil {
		return noJob(err)
	}
	if !r.serverDryRun {
		return r.show(cmd.Context(), cmd.OutOrStdout(), p.redactor, nil, i)
	}
	cluster, err := p.kubeClient(cfg.Kubeconfig, kube.Options{})
	if err != nil {
		return err
	}
	return r.show(cmd.Context(), cmd.OutOrStdout(), p.redactor, dispatch.New(dispatch.Options{Kube: cluster, Redactor: p.redactor}), i)
}

// show prints what was asked for, also beside an error.
func (r renderFlags) show(ctx context.Context, out io.Writer, redactor *redact.Redactor, d *dispatch.Dispatcher, i *dispatch.Inspection) error {
	var text bytes.Buffer
	err := r.print(ctx, printer{&text, redactor}, d, i)
	if _, writeErr := out.Write(text.Bytes()); writeErr != nil {
		return errors.Join(err, writeErr)
	}
	return err
}

// print prints the Job, or the answers to the questions that the flags ask.
func (r renderFlags) print(ctx context.Context, out printer, d *dispatch.Dispatcher, i *dispatch.Inspection) error {
	if !r.explain && !r.diff && !r.lint && !r.serverDryRun {
		return out.job(i.Manifest, r.output)
	}
	if r.explain {
		if err := out.origins(i.Origins); err != nil {
			return err
		}
	}
	findings := 0
	if r.lint {
		for _, finding := range lint(i) {
			out.line("lint: %s", strings.TrimPrefix(finding.Path+": ", ": ")+finding.Message)
			findings++
		}
	}
	if r.serverDryRun || r.diff {
		more, err := r.ask(ctx, out, d, i)
		if err != nil {
			return err
		}
		findings += more
	}
	if findings > 0 {
		return &partial{exitRefused, fmt.Sprintf("%d findings", findings)}
	}
	return nil
}

// lint adds to the renderer's findings those that need the Job's schema.
func lint(i *dispatch.Inspection) []render.Finding {
	findings := i.Findings
	for _, unknown := range kube.UnknownFields(i.Manifest) {
		findings = append(findings, render.Finding{Path: "job_configuration/job_manifest", Message: unknown + ": the API server prunes or refuses it"})
	}
	return findings
}

// ask prints the API server's verdict, and the difference from the Job that it has.
func (r renderFlags) ask(ctx context.Context, out printer, d *dispatch.Dispatcher, i *dispatch.Inspection) (findings int, err error) {
	verdict, err := d.Try(ctx, i)
	if err != nil {
		return 0, err
	}
	if r.serverDryRun || verdict.Refusal != "" {
		for _, warning := range verdict.Warnings {
			out.line("server: warning: %s", warning)
		}
		if verdict.Refusal != "" {
			out.line("server: refused: %s", verdict.Refusal)
			return 1, nil
		}
		out.line("server: would take the Job in namespace %s", i.Job.Namespace)
	}
	if !r.diff {
		return 0, nil
	}
	live, err := d.LiveJob(ctx, i.Run)
	if err != nil {
		return 0, err
	}
	differences, err := kube.Differences(verdict.Defaulted, live)
	if err != nil {
		return 0, err
	}
	for _, difference := range differences {
		out.line("diff: %s\n  rendered: %s\n  cluster:  %s", difference.Path, difference.Want, difference.Have)
	}
	if len(differences) == 0 {
		out.line("diff: none")
	}
	return len(differences), nil
}
