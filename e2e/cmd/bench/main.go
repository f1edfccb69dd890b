// Command bench measures Slipway beside the Python worker: `make bench`.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"slipway/e2e/bench"
	"slipway/e2e/prefectserver"
	"slipway/e2e/world"
)

func main() {
	runs := flag.Int("runs", 200, "due flow runs for each contestant, at most 200")
	onTime := flag.Bool("on-time", false, "how far from their due times runs start, instead: eight minutes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if *onTime {
		err = measureOnTime(ctx)
	} else {
		err = measure(ctx, *runs)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, runs int) error {
	worker, err := prefectserver.Install(ctx, os.Stderr, prefectserver.Worker3)
	if err != nil {
		return err
	}
	w, err := world.Start(ctx, world.Options{Postgres: true, NoNode: true, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer w.Stop()
	fmt.Printf("Prefect %s on PostgreSQL, kube-apiserver with its controllers, %d processors shared by all\n", worker.Version, runtime.NumCPU())
	return (&bench.Bench{World: w, Worker: worker, Runs: runs, Out: os.Stdout}).Run(ctx)
}

func measureOnTime(ctx context.Context) error {
	worker, err := prefectserver.Install(ctx, os.Stderr, prefectserver.Worker3)
	if err != nil {
		return err
	}
	w, err := world.Start(ctx, world.Options{Postgres: true, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer w.Stop()
	return (&bench.OnTime{World: w, Worker: worker, Out: os.Stdout}).Run(ctx)
}
