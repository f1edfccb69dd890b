package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"slipway/automations"
	"slipway/internal/redact"
	"slipway/prefect"
)

// apply creates what is missing and changes what differs.
func (v *automationsVerb) apply(ctx context.Context, out io.Writer, client *prefect.Client, cfg Config) error {
	token, err := firstToken(cfg, v.process.redactor)
	if err != nil {
		return err
	}
	stored, err := v.stored(ctx, client)
	if err != nil {
		return err
	}
	block, err := v.applyBlock(ctx, out, client, automations.Block(v.url, token))
	if err != nil {
		return err
	}
	for _, wanted := range v.make(block) {
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
// Slipway serves callers without a token.
func firstToken(cfg Config, redactor *redact.Redactor) (string, error) {
	tokens, err := newTokens(cfg, slog.New(slog.DiscardHandler), redactor)
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
func (v *automationsVerb) stored(ctx context.Context, client *prefect.Client) (map[string][]prefect.Automation, error) {
	var names []string
	for _, wanted := range v.make("") {
		names = append(names, wanted["name"].(string))
	}
	found, err := client.Automations(ctx, names)
	if prefect.IsNotFound(err) || prefect.IsInvalid(err) {
		return nil, &usageError{"this Prefect server has automations switched off: trigger passes by a CronJob or curl, or, on Prefect 2.20, start the server with " +
			"PREFECT_EXPERIMENTAL_EVENTS=true; see docs/triggers.md"}
	}
	stored := map[string][]prefect.Automation{}
	for _, one := range found {
		stored[one.Name] = append(stored[one.Name], one)
	}
	return stored, err
}

// applyBlock creates the webhook block, or changes its url and token. It returns the
// block's id.
func (v *automationsVerb) applyBlock(ctx context.Context, out io.Writer, client *prefect.Client, data automations.Doc) (string, error) {
	block, err := v.readBlock(ctx, client)
	if err != nil {
		return "", err
	}
	kind, err := client.BlockKind(ctx, "webhook")
	if err != nil {
		return "", err
	}
	done := "unchanged"
	switch {
	case block.ID == "":
		done = "created"
		block.ID, err = client.CreateBlockDocument(ctx, kind, v.name, data)
	case !automations.Same(data, block.Data):
		done, err = "changed", client.UpdateBlockDocument(ctx, block.ID, kind, data)
	}
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(out, "block webhook/%s: %s\n", v.name, done)
	return block.ID, err
}

// delete deletes the automations, and the block once no other automation calls it.
func (v *automationsVerb) delete(ctx context.Context, out io.Writer, client *prefect.Client, _ Config) error {
	stored, err := v.stored(ctx, client)
	if err != nil {
		return err
	}
	block, err := v.readBlock(ctx, client)
	if err != nil {
		return err
	}
	caller, err := otherCaller(ctx, client, block.ID, stored)
	if err != nil {
		return err
	}
	tell := func(what, done string) error { _, err := fmt.Fprintf(out, "%s: %s\n", what, done); return err }
	stays := fmt.Sprintf("stays, automation %q calls the webhook", caller)
	for _, wanted := range v.make("") {
		name := wanted["name"].(string)
		what := fmt.Sprintf("automation %q", name)
		if shared := name == automations.TickName(v.name) && len(v.kinds) > 1; shared && caller != "" && len(stored[name]) > 0 {
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
	case block.ID == "":
		return nil
	case caller != "":
		return tell("block webhook/"+v.name, stays)
	}
	if err := client.DeleteBlockDocument(ctx, block.ID); err != nil && !prefect.IsNotFound(err) {
		return err
	}
	return tell("block webhook/"+v.name, "deleted")
}

// otherCaller names an automation that calls the webhook and is not to be deleted:
// that of another work pool, or the user's own. "" if there is none.
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
