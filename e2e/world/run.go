package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Env is the environment that Slipway runs with: nothing of the user's own.
func (w *World) Env() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.Dir, "PREFECT_API_URL=" + w.Prefect.API, "KUBECONFIG=" + w.Kubeconfig, "SLIPWAY_WORK_POOLS=" + Pool}
}

// Result is a finished run of the command line.
type Result struct {
	Stdout, Stderr string
	Code           int
	PeakMemory     int64 // of its resident set, in bytes
}

// Slipway runs the command line to its end.
func (w *World) Slipway(ctx context.Context, args ...string) (Result, error) {
	return w.SlipwayWith(ctx, nil, args...)
}

// SlipwayWith runs the command line with more settings.
func (w *World) SlipwayWith(ctx context.Context, env []string, args ...string) (Result, error) {
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, w.Binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(w.Env(), env...), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() == nil && errors.As(err, &exit) {
		err = nil // the exit code says it
	}
	return Result{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode(), PeakMemory: peakMemory(cmd.ProcessState)}, err
}

// peakMemory is what getrusage(2) says of an ended process: KiB on Linux, bytes
// elsewhere.
func peakMemory(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	switch {
	case !ok:
		return 0
	case runtime.GOOS == "linux":
		return usage.Maxrss << 10
	}
	return usage.Maxrss
}

// Python runs a program of the virtual environment, such as prefect, as a user
// of this server would.
func (w *World) Python(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, w.Prefect.Venv.Bin(program), args...)
	cmd.Dir = dir
	cmd.Env = append(w.Prefect.ClientEnv(w.Dir), "FLOW_DIRECTORY="+filepath.Join(Root(), "examples", "etl"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
