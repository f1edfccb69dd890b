package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"slipway/dispatch"
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

func renderCommand() *cobra.Command {
	var flags renderFlags
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print the Job of a flow run or deployment, and change nothing",
		Long: "Prints the Job exactly as a pass would submit it, for a flow run, for a deployment, or offline from files.\n\n" +
			"  slipway render --deployment repo-info/demo --lint\n" +
			"  slipway render --flow-run 6f9d5e3a-... --diff\n" +
			"  slipway render --base-job-template template.json --job-variables variables.yaml\n\n" +
			"Exit codes: 0 done; 2 usage or settings; 3 there is no such Job, the API server would refuse it (--server-dry-run),\n" +
			"it differs (--diff) or --lint found something; 4 a server could not be reached.\n\n" + settingsHelp(),
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
	f.BoolVar(&flags.lint, "lint", false, "say what is likely not meant")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return flags.run(cmd) }
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
		return &usageError{fmt.Sprintf("--flow-run %q is no flow run id", r.flowRun)}
	}
	return nil
}

func (r renderFlags) run(cmd *cobra.Command) error {
	if err := r.check(); err != nil {
		return err
	}
	if r.file != "" || r.template != "" {
		return r.offline(cmd.Context(), cmd.OutOrStdout())
	}
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	d, err := wire(cfg, newLog(cfg, cmd.ErrOrStderr(), false))
	if err != nil {
		return err
	}
	i, err := d.Inspect(cmd.Context(), dispatch.Subject{WorkPool: r.pool, Deployment: r.deployment, FlowRun: r.flowRun})
	if err != nil {
		return noJob(err)
	}
	return r.show(cmd.Context(), cmd.OutOrStdout(), d, i)
}

// noJob tells a user's error in the template from all others.
func noJob(err error) error {
	var fault *render.Fault
	if errors.As(err, &fault) {
		return &partial{exitRefused, "there is no such Job: " + fault.Error()}
	}
	return err
}

// offline renders from files, with no server but the API server for a dry run.
func (r renderFlags) offline(ctx context.Context, out io.Writer) error {
	read, err := r.read()
	if err != nil {
		return &usageError{err.Error()}
	}
	i, err := read.inspect(os.Getenv("SLIPWAY_RENDER_AS"))
	if err != nil {
		return noJob(err)
	}
	if !r.serverDryRun {
		return r.show(ctx, out, nil, i)
	}
	restConfig, err := kube.LoadConfig(os.Getenv("KUBECONFIG"))
	if err != nil {
		return &usageError{err.Error()}
	}
	cluster, err := kube.New(restConfig, kube.Options{UserAgent: "slipway/" + buildVersion()})
	if err != nil {
		return &usageError{err.Error()}
	}
	return r.show(ctx, out, dispatch.New(dispatch.Options{Kube: cluster}), i)
}

// show prints what was asked for, without secrets.
func (r renderFlags) show(ctx context.Context, out io.Writer, d *dispatch.Dispatcher, i *dispatch.Inspection) error {
	var text strings.Builder
	err := r.tell(ctx, &text, d, i)
	if _, printErr := io.WriteString(out, i.Redact(text.String())); printErr != nil {
		return errors.Join(err, printErr)
	}
	return err
}

// tell prints the Job, unless questions were put.
func (r renderFlags) tell(ctx context.Context, out io.Writer, d *dispatch.Dispatcher, i *dispatch.Inspection) error {
	if !r.explain && !r.diff && !r.lint && !r.serverDryRun {
		return printJob(out, i.Manifest, r.output)
	}
	if r.explain {
		if err := printOrigins(out, i.Origins); err != nil {
			return err
		}
	}
	faults := 0
	if r.lint {
		for _, finding := range lint(i) {
			_, _ = fmt.Fprintf(out, "lint: %s\n", strings.TrimPrefix(finding.Path+": ", ": ")+finding.Message)
			faults++
		}
	}
	if r.serverDryRun || r.diff {
		more, err := r.ask(ctx, out, d, i)
		if err != nil {
			return err
		}
		faults += more
	}
	if faults > 0 {
		return &partial{exitRefused, fmt.Sprintf("%d findings", faults)}
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

// ask prints the API server's verdict and the difference from the Job that it has.
func (r renderFlags) ask(ctx context.Context, out io.Writer, d *dispatch.Dispatcher, i *dispatch.Inspection) (faults int, err error) {
	verdict, err := d.Try(ctx, i)
	if err != nil {
		return 0, err
	}
	if r.serverDryRun || verdict.Refusal != "" {
		for _, warning := range verdict.Warnings {
			_, _ = fmt.Fprintf(out, "server: warning: %s\n", warning)
		}
		if verdict.Refusal != "" {
			_, _ = fmt.Fprintf(out, "server: refused: %s\n", verdict.Refusal)
			return 1, nil
		}
		_, _ = fmt.Fprintf(out, "server: would take the Job in namespace %s\n", i.Job.Namespace)
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
	for _, one := range differences {
		_, _ = fmt.Fprintf(out, "diff: %s\n  rendered: %s\n  cluster:  %s\n", one.Path, one.Want, one.Have)
	}
	if len(differences) == 0 {
		_, _ = fmt.Fprintln(out, "diff: none")
	}
	return len(differences), nil
}

func printJob(out io.Writer, manifest []byte, format string) error {
	if format == "json" {
		var indented json.RawMessage = manifest
		text, err := json.MarshalIndent(indented, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s\n", text)
		return err
	}
	text, err := yaml.JSONToYAML(manifest)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

func printOrigins(out io.Writer, origins []render.Origin) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PATH\tFROM\tVARIABLE\tVALUE")
	for _, o := range origins {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", o.Path, strings.Join(o.Sources, ", "), strings.Join(o.Variables, ", "), o.Value)
	}
	return w.Flush()
}
