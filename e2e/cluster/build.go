package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"slipway/e2e/process"
)

const kubernetesVersion = "v1.36.3"

// Build makes the control plane's multi-call binary; Go leaves one alone that is
// up to date. The first time takes about five minutes on two
// cores; log gets a line now and then.
func Build(ctx context.Context, log io.Writer) (string, error) {
	module, err := moduleDir()
	if err != nil {
		return "", err
	}
	cache, err := process.CacheDir("kube")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(cache, "kube-"+kubernetesVersion)
	if _, err := os.Stat(binary); err != nil {
		_, _ = fmt.Fprintf(log, "building the control plane (etcd, kube-apiserver, kube-controller-manager %s): about 5 minutes the first time on 2 cores\n", kubernetesVersion)
	}
	stop := progress(ctx, log, "still building the control plane")
	defer stop()
	version := "k8s.io/component-base/version."
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "kube", "-o", binary,
		"-ldflags", "-s -w -X "+version+"gitVersion="+kubernetesVersion+" -X "+version+"gitMajor=1 -X "+version+"gitMinor=36", "./cmd/kube")
	cmd.Dir = module
	// Go's cache keeps a package for each value of CGO_ENABLED. One value, whatever the
	// caller's is, so that Kubernetes is compiled once.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the control plane: %w\n%s", err, out)
	}
	return binary, nil
}

// progress says something every 20 seconds until it is stopped.
func progress(ctx context.Context, log io.Writer, text string) func() {
	ctx, cancel := context.WithCancel(ctx)
	started := time.Now()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Second):
				_, _ = fmt.Fprintf(log, "%s (%s)\n", text, time.Since(started).Round(time.Second))
			}
		}
	}()
	return cancel
}

// moduleDir is where this module's sources are.
func moduleDir() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", fmt.Errorf("the sources of the test world are not known to this binary")
	}
	return filepath.Dir(filepath.Dir(file)), nil
}
