package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// Build makes the control plane's multi-call binary, unless the one in the cache
// was made from the same sources. The first time takes about five minutes on two
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
	stamp, err := digest(filepath.Join(module, "go.sum"), filepath.Join(module, "cmd/kube/main.go"))
	if err != nil {
		return "", err
	}
	binary := filepath.Join(cache, "kube-"+kubernetesVersion+"-"+stamp)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	_, _ = fmt.Fprintf(log, "building the control plane (etcd, kube-apiserver, kube-controller-manager %s): about 5 minutes the first time\n", kubernetesVersion)
	stop := progress(ctx, log, "still building the control plane")
	defer stop()
	part := fmt.Sprintf("%s.%d", binary, os.Getpid())
	version := "k8s.io/component-base/version."
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", part,
		"-ldflags", "-s -w -X "+version+"gitVersion="+kubernetesVersion+" -X "+version+"gitMajor=1 -X "+version+"gitMinor=36", "./cmd/kube")
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the control plane: %w\n%s", err, out)
	}
	return binary, os.Rename(part, binary)
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

func digest(paths ...string) (string, error) {
	h := sha256.New()
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}
