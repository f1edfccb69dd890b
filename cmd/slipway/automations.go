package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"slipway/automations"
	"slipway/prefect"
)

// automationsVerb is the verb with its flags; those of print and apply are the same.
type automationsVerb struct {
	process   *process
	name      string
	workPools []string
	kinds     []string
	tick      time.Duration
	url       string
	remove    bool
}

func automationsCommand(p *process) *cobra.Command {
	v := automationsVerb{process: p}
	cmd := &cobra.Command{
		Use:   "automations",
		Short: "Print or apply the automations that trigger passes of `slipway serve`",
		Long: "Prints, as `prefect automation create --from-file` takes it, the automations with which a Prefect 3 server calls the webhook of a\n" +
			"`slipway serve`: for a run that is created by hand, late, to be retried or resumed (scheduled), to be cancelled (cancelling), or\n" +
			"that has ended and may have freed a slot (ended); and at regular intervals (tick), because a run of a schedule emits no event in\n" +
			"time.\n\n" +
			"`slipway automations apply` creates the webhook block, with the first token of SLIPWAY_AUTH_TOKENS, and the automations. Repeated,\n" +
			"it changes only what differs. `apply --delete` deletes them, and the block once no automation calls it.",
		Args: noArguments,
	}
	flags := cmd.PersistentFlags()
	flags.StringArrayVar(&v.workPools, "work-pool", nil, "work pool whose runs trigger passes; may be repeated (SLIPWAY_WORK_POOLS)")
	flags.StringVar(&v.name, "name", "slipway", "name of the webhook block, with which the automations' names begin: another one for each Slipway of a server")
	flags.StringSliceVar(&v.kinds, "only", nil, "some of scheduled, cancelling, ended, tick; without it all")
	flags.DurationVar(&v.tick, "tick", 30*time.Second, "time between ticks; at least 10s")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return v.run(cmd, v.print) }
	apply := &cobra.Command{Use: "apply", Short: "Create the webhook block and the automations, or change what differs", Args: noArguments}
	apply.Flags().StringVar(&v.url, "url", "http://slipway.slipway.svc:8080/v1/hooks/prefect", "the webhook's address, as the Prefect server reaches it")
	apply.Flags().BoolVar(&v.remove, "delete", false, "delete the automations and the block instead")
	apply.RunE = func(cmd *cobra.Command, _ []string) error {
		if v.remove {
			return v.run(cmd, v.delete)
		}
		return v.run(cmd, v.apply)
	}
	cmd.AddCommand(apply)
	return cmd
}

// run reads settings and flags, does what is asked for, and tells servers' errors
// from the user's.
func (v *automationsVerb) run(cmd *cobra.Command, do func(context.Context, io.Writer, *prefect.Client, Config) error) error {
	cfg, _, err := v.process.settings(cmd, false)
	if err != nil {
		return err
	}
	if err := v.over(&cfg); err != nil {
		return err
	}
	client, err := prefectClient(cfg)
	if err != nil {
		return &usageError{err.Error()}
	}
	err = do(cmd.Context(), cmd.OutOrStdout(), client, cfg)
	var server *prefect.Error
	if errors.As(err, &server) {
		return &partial{exitLeft, err.Error()}
	}
	return err
}

// over lays the flags over the settings, and completes and checks them.
func (v *automationsVerb) over(cfg *Config) error {
	pools := reportFlags{workPools: v.workPools, output: "text"}
	if err := pools.over(cfg, "text"); err != nil {
		return err
	}
	v.workPools = cfg.WorkPools
	if len(v.kinds) == 0 {
		for _, kind := range automations.Kinds {
			v.kinds = append(v.kinds, string(kind))
		}
	}
	for _, kind := range v.kinds {
		if !slices.Contains(automations.Kinds, automations.Kind(kind)) {
			return &usageError{fmt.Sprintf("--only: %q is none of scheduled, cancelling, ended, tick", kind)}
		}
	}
	if v.tick < automations.MinTick || v.tick%time.Second != 0 {
		return &usageError{"--tick must be whole seconds, and at least 10s, which is the least that the Prefect server takes"}
	}
	return nil
}

func (v *automationsVerb) make(block string) []automations.Doc {
	o := automations.Options{Name: v.name, WorkPools: v.workPools, Tick: v.tick, BlockID: block}
	for _, kind := range v.kinds {
		o.Kinds = append(o.Kinds, automations.Kind(kind))
	}
	return automations.Make(o)
}

// noBlock stands in what is printed for the id of a block that does not exist yet.
const noBlock = "00000000-0000-0000-0000-000000000000"

func (v *automationsVerb) print(ctx context.Context, out io.Writer, client *prefect.Client, _ Config) error {
	block, err := v.readBlock(ctx, client)
	if err != nil {
		return err
	}
	header := "# prefect automation create --from-file FILE\n"
	if block.ID == "" {
		block.ID = noBlock
		header += "# The block webhook/" + v.name + " does not exist yet: fill in its id, or let `slipway automations apply` create all of it.\n"
	}
	text, err := yaml.Marshal(map[string]any{"automations": v.make(block.ID)})
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(out, header, string(text))
	return err
}

// webhookBlock is the block document that the automations call.
type webhookBlock struct {
	ID   string          `json:"id"` // "": it does not exist
	Data automations.Doc `json:"data"`
}

// readBlock reads the webhook block with its secrets, which the redactor learns.
func (v *automationsVerb) readBlock(ctx context.Context, client *prefect.Client) (webhookBlock, error) {
	var block webhookBlock
	raw, err := client.BlockDocumentByName(ctx, "webhook", v.name)
	if prefect.IsNotFound(err) {
		return block, nil
	}
	if err != nil {
		return block, err
	}
	v.process.redactor.LearnBlock(raw)
	if err := json.Unmarshal(raw, &block); err != nil {
		return block, fmt.Errorf("block webhook/%s: %w", v.name, err)
	}
	return block, nil
}
