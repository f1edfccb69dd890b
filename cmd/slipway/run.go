package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"slipway/dispatch"
	"slipway/internal/redact"
)

// Exit codes.
const (
	exitDone        = 0
	exitInternal    = 1   // a fault of Slipway's own
	exitUsage       = 2   // usage or settings
	exitRefused     = 3   // some flow runs were refused for good
	exitLeft        = 4   // a server could not be reached: work is left for the next trigger
	exitInterrupted = 130 // by a signal; claimed flow runs were finished
)

// usageError is the caller's mistake.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// partial is a pass that did its work but not all of it.
type partial struct {
	code int
	text string
}

func (e *partial) Error() string { return e.text }

// exitCode is the one place where errors become exit codes.
func exitCode(err error) int {
	var usage *usageError
	var part *partial
	var typed *dispatch.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &part):
		return part.code
	case errors.As(err, &typed):
		return map[dispatch.Kind]int{
			dispatch.Invalid:     exitUsage,
			dispatch.NotFound:    exitUsage,
			dispatch.Denied:      exitLeft,
			dispatch.Unavailable: exitLeft,
			dispatch.Interrupted: exitInterrupted,
			dispatch.Internal:    exitInternal,
		}[typed.Kind]
	default:
		return exitInternal
	}
}

// run is the whole program but for the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends the claiming; a second one ends the process at once.
	context.AfterFunc(ctx, stop)

	p := &process{redactor: redact.New()}
	root := rootCommand(p)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "slipway:", p.redactor.Error(err))
	}
	return exitCode(err)
}

func rootCommand(p *process) *cobra.Command {
	root := &cobra.Command{
		Use:   "slipway",
		Short: "Launch due flow runs of Prefect on Kubernetes, a pass at a time",
		Long: "Slipway claims the due flow runs of a kubernetes work pool, renders each Job as Prefect's Python worker would,\n" +
			"submits it, reports, and ends. Nothing stays resident.\n\n" +
			"Settings come from the environment, and flags override them: `slipway help settings` lists them.",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Sprintf("unknown command %q; see slipway --help", args[0])}
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetHelpFunc(help)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err.Error() + "; see " + cmd.CommandPath() + " --help"}
	})
	root.AddCommand(
		dispatchCommand(p), sweepCommand(p), serveCommand(p), renderCommand(p), automationsCommand(p), doctorCommand(p), explainCommand(p),
		versionCommand(), settingsTopic(),
	)
	return root
}

// help shows usage and flags first: a reader of `slipway sweep -h` mostly looks for a
// flag. It is no template, which would add 0.3 MB to the binary.
func help(cmd *cobra.Command, _ []string) {
	text := cmd.Short + "\n\n" + cmd.UsageString()
	if cmd.Long != "" {
		text += "\n" + cmd.Long + "\n"
	}
	cmd.Print(text)
}

// settingsTopic is what `slipway help settings` prints.
func settingsTopic() *cobra.Command {
	topic := &cobra.Command{Use: "settings", Short: "All settings, with their defaults", Long: settingsHelp()}
	topic.SetHelpFunc(func(cmd *cobra.Command, _ []string) { cmd.Print(cmd.Long) })
	return topic
}

// noArguments refuses what is no flag.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Sprintf("%s takes no argument %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())}
	}
	return nil
}
