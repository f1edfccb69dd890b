package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"slipway/dispatch"
	"slipway/handler"
)

func serveCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Make passes when asked over HTTP",
		Long: "POST /v1/dispatch makes a pass and answers with its report; POST /v1/hooks/prefect answers 202 and makes one in the background.\n" +
			"Also: /livez, /readyz, /version, /metrics, and /openapi.yaml, which describes them all.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := p.settings(cmd, true)
			if err != nil {
				return err
			}
			return p.serve(cmd.Context(), cfg, log)
		},
	}
}

func (p *process) serve(ctx context.Context, cfg Config, log *slog.Logger) error {
	if len(cfg.WorkPools) == 0 {
		return &usageError{"no work pool is named: set SLIPWAY_WORK_POOLS"}
	}
	tokens, err := newTokens(cfg, log, p.redactor)
	if err != nil {
		return err
	}
	if len(tokens.now()) == 0 && !cfg.AllowUnauthenticated && !isLoopback(cfg.Listen) {
		return &usageError{fmt.Sprintf("anybody who reaches %s could start passes: set SLIPWAY_AUTH_TOKENS or SLIPWAY_AUTH_TOKENS_FILE, or SLIPWAY_ALLOW_UNAUTHENTICATED=true where something else restricts access", cfg.Listen)}
	}
	d, err := p.wire(cfg, log)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server := handler.New(handler.Options{
		Passes:   d,
		Defaults: dispatch.Request{WorkPools: cfg.WorkPools, WorkQueues: cfg.WorkQueues, LookAhead: cfg.LookAhead, Limit: cfg.Limit, Sweep: true},
		Tokens:   tokens.now,
		Log:      log,
		Registry: registry,
		Version:  allVersions(),
	})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return &usageError{"SLIPWAY_LISTEN: " + err.Error()}
	}
	log.Info("listening", "address", listener.Addr().String(), "work_pools", cfg.WorkPools)
	return serveUntil(ctx, cfg, log, server, listener)
}

// serveUntil serves until the context ends, and then drains: unready first, then
// no new connections, then the runs that are claimed are finished.
func serveUntil(ctx context.Context, cfg Config, log *slog.Logger, passes *handler.Server, listener net.Listener) error {
	server := handler.HTTPServer(passes)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.Info("draining")
	passes.Unready()
	// The context is over; draining has a time of its own.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownDelay+cfg.DrainTimeout)
	defer cancel()
	pause(drain, cfg)
	// Both end the claiming first and wait for what is claimed.
	drained := make(chan error, 1)
	go func() { drained <- passes.Drain(drain) }()
	err := errors.Join(server.Shutdown(drain), <-drained)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return &partial{exitLeft, "drained in part: " + err.Error() + " (SLIPWAY_DRAIN_TIMEOUT); the next pass takes over"}
	}
	log.Info("drained")
	return nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
