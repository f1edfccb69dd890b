package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"slipway/automations"
	"slipway/prefect"
)

// automationFlags are those of print and apply.
type automationFlags struct {
	name      string
	workPools []string
	kinds     []string
	tick      time.Duration
	url       string
	remove    bool
}

func automationsCommand() *cobra.Command {
	var f automationFlags
	cmd := &cobra.Command{
		Use:   "automations",
		Short: "Print or apply the automations that wake Slipway",
		Long: "Prints, as `prefect automation create --from-file` takes it, what makes a Prefect 3 server wake a `slipway serve`: at a run\n" +
			"that is made by hand, late, to be tried again or resumed (scheduled), to be cancelled (cancelling), or has ended and may have\n" +
			"freed a slot (ended); and in a steady rhythm (tick), because runs of schedules announce themselves late.\n\n" +
			"`slipway automations apply` makes the webhook block, with the first token of SLIPWAY_AUTH_TOKENS, and the automations: again, it\n" +
			"changes only what differs. `apply --delete` removes them, and the block when nothing calls it any more.\n\n" + settingsHelp(),
		Args: noArguments,
	}
	p := cmd.PersistentFlags()
	p.StringArrayVar(&f.workPools, "work-pool", nil, "work pool whose runs wake Slipway; may be repeated (SLIPWAY_WORK_POOLS)")
	p.StringVar(&f.name, "name", "slipway", "name of the webhook block, with which the automations' names begin: one for each Slipway that a server wakes")
	p.StringSliceVar(&f.kinds, "only", nil, "some of scheduled, cancelling, ended, tick; without it all")
	p.DurationVar(&f.tick, "tick", 30*time.Second, "time between ticks; at least 10s")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd, f.print) }
	apply := &cobra.Command{Use: "apply", Short: "Make the webhook block and the automations, or change what differs", Args: noArguments}
	apply.Flags().StringVar(&f.url, "url", "http://slipway.slipway.svc:8080/v1/hooks/prefect", "the webhook's address, as the Prefect server reaches it")
	apply.Flags().BoolVar(&f.remove, "delete", false, "remove the automations and the block instead")
	apply.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.remove {
			return f.run(cmd, f.delete)
		}
		return f.run(cmd, f.apply)
	}
	cmd.AddCommand(apply)
	return cmd
}

// run reads settings and flags, and tells servers' errors from the user's.
func (f *automationFlags) run(cmd *cobra.Command, do func(context.Context, io.Writer, *prefect.Client, Config) error) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	if f.workPools, err = cfg.pools(f.workPools); err != nil {
		return err
	}
	if len(f.kinds) == 0 {
		for _, kind := range automations.Kinds {
			f.kinds = append(f.kinds, string(kind))
		}
	}
	for _, kind := range f.kinds {
		if !slices.Contains(automations.Kinds, automations.Kind(kind)) {
			return &usageError{fmt.Sprintf("--only: %q is none of scheduled, cancelling, ended, tick", kind)}
		}
	}
	if f.tick < automations.MinTick || f.tick%time.Second != 0 {
		return &usageError{"--tick must be whole seconds, and at least 10s, which is the least that the Prefect server takes"}
	}
	client, err := prefectClient(cfg)
	if err != nil {
		return &usageError{err.Error()}
	}
	err = do(cmd.Context(), cmd.OutOrStdout(), client, cfg)
	var server *prefect.Error
	if errors.As(err, &server) {
		text := err.Error() // a server may quote what it refuses
		hidden := secrets(cfg)
		if tokens, err := newTokens(cfg, slog.New(slog.DiscardHandler)); err == nil {
			hidden = append(hidden, tokens.now()...)
		}
		for _, secret := range hidden {
			if secret != "" {
				text = strings.ReplaceAll(text, secret, redacted)
			}
		}
		return &partial{exitLeft, text}
	}
	return err
}

func (f *automationFlags) make(block string) []automations.Doc {
	o := automations.Options{Name: f.name, WorkPools: f.workPools, Tick: f.tick, BlockID: block}
	for _, kind := range f.kinds {
		o.Kinds = append(o.Kinds, automations.Kind(kind))
	}
	return automations.Make(o)
}

// noBlock stands in what is printed for the id of a block that does not exist yet.
const noBlock = "00000000-0000-0000-0000-000000000000"

func (f *automationFlags) print(ctx context.Context, out io.Writer, client *prefect.Client, _ Config) error {
	block, err := f.readBlock(ctx, client)
	if err != nil {
		return err
	}
	header := "# prefect automation create --from-file FILE\n"
	if block == "" {
		block = noBlock
		header += "# The block webhook/" + f.name + " does not exist yet: put its id in, or let `slipway automations apply` make all of it.\n"
	}
	text, err := yaml.Marshal(map[string]any{"automations": f.make(block)})
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(out, header, string(text))
	return err
}

// readBlock finds the id of the webhook block; "" if it does not exist.
func (f *automationFlags) readBlock(ctx context.Context, client *prefect.Client) (string, error) {
	raw, err := client.BlockDocumentByName(ctx, "webhook", f.name)
	if prefect.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var document struct {
		ID string `json:"id"`
	}
	return document.ID, json.Unmarshal(raw, &document)
}

func (f *automationFlags) apply(ctx context.Context, out io.Writer, client *prefect.Client, cfg Config) error {
	token, err := firstToken(cfg)
	if err != nil {
		return err
	}
	stored, err := f.stored(ctx, client)
	if err != nil {
		return err
	}
	block, err := f.applyBlock(ctx, out, client, automations.Block(f.url, token))
	if err != nil {
		return err
	}
	for _, wanted := range f.make(block) {
		name := wanted["name"].(string)
		done := "created"
		switch have := stored[name]; {
		case len(have) == 0:
			err = client.CreateAutomation(ctx, wanted)
		case automations.Same(wanted, have[0].Doc):
			done = "unchanged"
		default:
			done, err = "changed", client.UpdateAutomation(ctx, have[0].ID, wanted)
		}
		if err != nil {
			return err
		}
		// Two that applied at once may have made it twice.
		for _, more := range stored[name][min(1, len(stored[name])):] {
			if err := client.DeleteAutomation(ctx, more.ID); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(out, "automation %q: %s\n", name, done); err != nil {
			return err
		}
	}
	return nil
}

// firstToken is the one that the webhook sends. It may be missing only where
// Slipway serves everybody.
func firstToken(cfg Config) (string, error) {
	tokens, err := newTokens(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	all := tokens.now()
	if len(all) == 0 && !cfg.AllowUnauthenticated {
		return "", &usageError{"SLIPWAY_AUTH_TOKENS must be set, to the tokens that `slipway serve` has: the webhook sends the first one"}
	}
	return strings.TrimSpace(strings.Join(all[:min(1, len(all))], "")), nil
}

// stored finds Slipway's automations on the server, by name.
func (f *automationFlags) stored(ctx context.Context, client *prefect.Client) (map[string][]prefect.Automation, error) {
	var names []string
	for _, wanted := range f.make("") {
		names = append(names, wanted["name"].(string))
	}
	found, err := client.Automations(ctx, names)
	if prefect.IsNotFound(err) {
		return nil, &usageError{"this Prefect server has its automations off: wake Slipway by a CronJob or curl, or, on Prefect 2.20, start the server with " +
			"PREFECT_EXPERIMENTAL_EVENTS=true; see docs/triggers.md"}
	}
	stored := map[string][]prefect.Automation{}
	for _, one := range found {
		stored[one.Name] = append(stored[one.Name], one)
	}
	return stored, err
}

// applyBlock makes the webhook block, or puts url and token into it.
func (f *automationFlags) applyBlock(ctx context.Context, out io.Writer, client *prefect.Client, data automations.Doc) (string, error) {
	raw, err := client.BlockDocumentByName(ctx, "webhook", f.name)
	missing := prefect.IsNotFound(err)
	if err != nil && !missing {
		return "", err
	}
	kind, err := client.BlockKind(ctx, "webhook")
	if err != nil {
		return "", err
	}
	var document struct {
		ID   string          `json:"id"`
		Data automations.Doc `json:"data"`
	}
	done := "unchanged"
	switch {
	case missing:
		done = "created"
		document.ID, err = client.CreateBlockDocument(ctx, kind, f.name, data)
	default:
		if err = json.Unmarshal(raw, &document); err == nil && !automations.Same(data, document.Data) {
			done, err = "changed", client.UpdateBlockDocument(ctx, document.ID, kind, data)
		}
	}
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(out, "block webhook/%s: %s\n", f.name, done)
	return document.ID, err
}

func (f *automationFlags) delete(ctx context.Context, out io.Writer, client *prefect.Client, _ Config) error {
	stored, err := f.stored(ctx, client)
	if err != nil {
		return err
	}
	block, err := f.readBlock(ctx, client)
	if err != nil {
		return err
	}
	caller, err := otherCaller(ctx, client, block, stored)
	if err != nil {
		return err
	}
	tell := func(what, done string) error { _, err := fmt.Fprintf(out, "%s: %s\n", what, done); return err }
	stays := fmt.Sprintf("stays, automation %q calls the webhook", caller)
	for _, wanted := range f.make("") {
		name := wanted["name"].(string)
		what := fmt.Sprintf("automation %q", name)
		if shared := name == automations.TickName(f.name) && len(f.kinds) > 1; shared && caller != "" && len(stored[name]) > 0 {
			if err := tell(what, stays); err != nil {
				return err
			}
			continue
		}
		for _, one := range stored[name] {
			if err := client.DeleteAutomation(ctx, one.ID); err != nil && !prefect.IsNotFound(err) {
				return err
			}
			if err := tell(what, "deleted"); err != nil {
				return err
			}
		}
	}
	switch {
	case block == "":
		return nil
	case caller != "":
		return tell("block webhook/"+f.name, stays)
	}
	if err := client.DeleteBlockDocument(ctx, block); err != nil && !prefect.IsNotFound(err) {
		return err
	}
	return tell("block webhook/"+f.name, "deleted")
}

// otherCaller names an automation that calls the webhook and is not to be deleted:
// another work pool's, or the user's own. "" if there is none.
func otherCaller(ctx context.Context, client *prefect.Client, block string, mine map[string][]prefect.Automation) (string, error) {
	if block == "" {
		return "", nil
	}
	all, err := client.Automations(ctx, nil)
	if err != nil {
		return "", err
	}
	for _, one := range all {
		if _, is := mine[one.Name]; !is && automations.Calls(one.Doc, block) {
			return one.Name, nil
		}
	}
	return "", nil
}
