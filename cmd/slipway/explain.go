package main

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func explainCommand(p *process) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "explain FLOW_RUN",
		Short: "Say why a flow run has not started",
		Long: "Reads what a flow run waits for: its due time, pauses, limits and who holds their slots, its claim, its Job, its pod, quotas;\n" +
			"the likeliest reason first. It changes nothing. GET /v1/explain/{id} of `slipway serve` answers the same.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{"name one flow run, by its id"}
			}
			if _, err := uuid.Parse(args[0]); err != nil {
				return &usageError{fmt.Sprintf("%q is not a flow run id", args[0])}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, d, err := p.start(cmd, func(*Config) error { return checkOutput(output, "text", "json") })
		if err != nil {
			return err
		}
		x, err := d.Explain(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if output == "json" {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(x)
		}
		text := fmt.Sprintf("flow run %s (%s) in work pool %s is %s", x.Name, x.ID, x.Pool, x.State)
		if x.Since != "" {
			text += " since " + x.Since
		}
		for i, reason := range x.Reasons {
			text += fmt.Sprintf("\n%d. %s", i+1, reason)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}
