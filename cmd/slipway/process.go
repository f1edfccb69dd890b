package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"slipway/dispatch"
	"slipway/internal/redact"
)

// process is what all verbs of one process share.
type process struct {
	redactor *redact.Redactor // knows the settings' secrets once they are read
}

// settings reads the settings and makes the logger, which may be used whatever the
// error. Variables that no setting has the name of are told first: they may be why
// a setting is missing.
func (p *process) settings(cmd *cobra.Command, resident bool) (Config, *slog.Logger, error) {
	cfg, err := loadConfig()
	p.redactor.Keep(secrets(cfg)...)
	log := p.newLog(cfg, cmd.ErrOrStderr(), resident)
	warnOfUnknownSettings(log, os.Environ())
	return cfg, log, err
}

// start is how the verbs that need both servers begin: it reads the settings, lays
// the flags over them, and makes the dispatcher. It sends nothing.
func (p *process) start(cmd *cobra.Command, flags func(*Config) error) (Config, *dispatch.Dispatcher, error) {
	cfg, log, err := p.settings(cmd, false)
	if err != nil {
		return cfg, nil, err
	}
	if err := flags(&cfg); err != nil {
		return cfg, nil, err
	}
	d, err := p.wire(cfg, log)
	return cfg, d, err
}

// newLog writes JSON lines to stderr. On a terminal, where the output says the
// same for people, only warnings come through.
func (p *process) newLog(cfg Config, stderr io.Writer, resident bool) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	var lines slog.Handler = slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})
	if f, ok := stderr.(*os.File); ok && !resident && term.IsTerminal(int(f.Fd())) && level == slog.LevelInfo {
		lines = slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	}
	return slog.New(p.redactor.Handler(lines))
}

// reportFlags are those of the verbs that report on work pools.
type reportFlags struct {
	workPools []string
	output    string
}

// add declares the flags; formats says what --output may be.
func (r *reportFlags) add(cmd *cobra.Command, pools, formats string) {
	cmd.Flags().StringArrayVar(&r.workPools, "work-pool", nil, pools+"; may be repeated (SLIPWAY_WORK_POOLS)")
	cmd.Flags().StringVarP(&r.output, "output", "o", "text", formats)
}

// over lays the flags over the settings.
func (r *reportFlags) over(cfg *Config, formats ...string) error {
	if len(r.workPools) > 0 {
		cfg.WorkPools = r.workPools
	}
	if len(cfg.WorkPools) == 0 {
		return &usageError{"no work pool is named: use --work-pool or SLIPWAY_WORK_POOLS"}
	}
	return checkOutput(r.output, formats...)
}

// checkOutput checks --output against the formats of a verb.
func checkOutput(output string, formats ...string) error {
	if slices.Contains(formats, output) {
		return nil
	}
	last := len(formats) - 1
	return &usageError{fmt.Sprintf("--output must be %s or %s", strings.Join(formats[:last], ", "), formats[last])}
}
