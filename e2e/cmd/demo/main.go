// Command demo shows the whole system on this machine: `make demo`.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"slipway/e2e/demo"
	"slipway/e2e/world"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := show(ctx, os.Getenv("KEEP") != "")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func show(ctx context.Context, keep bool) error {
	w, err := world.Start(ctx, world.Options{Log: os.Stdout})
	if err != nil {
		return err
	}
	defer w.Stop()
	err = (&demo.Demo{World: w, Out: os.Stdout}).Run(ctx)
	if !keep || ctx.Err() != nil {
		return err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	fmt.Printf(`
The world stays up until Ctrl-C. In another terminal:

  export PREFECT_API_URL=%s
  export KUBECONFIG=%s          # kubectl, as admin
  kubectl get jobs,pods -n dev
  PATH=%s:$PATH prefect deployment run repo-info/demo
  KUBECONFIG=%s %s dispatch --work-pool %s

  UI: %s
`, w.Prefect.API, w.Cluster.AdminKubeconfig(), w.Prefect.Venv.Dir+"/bin", w.Kubeconfig, w.Binary, world.Pool, w.Prefect.URL)
	<-ctx.Done()
	return err
}
