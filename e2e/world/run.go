package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Env is the environment that Slipway runs with: nothing of the user's own.
func (w *World) Env() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.Dir, "PREFECT_API_URL=" + w.Prefect.API, "KUBECONFIG=" + w.Kubeconfig, "SLIPWAY_WORK_POOLS=" + Pool}
}

// Result is a finished run of the command line.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Slipway runs the command line to its end.
func (w *World) Slipway(ctx context.Context, args ...string) (Result, error) {
	return w.SlipwayWith(ctx, nil, args...)
}

// SlipwayWith runs the command line with more settings.
func (w *World) SlipwayWith(ctx context.Context, env []string, args ...string) (Result, error) {
	return w.command(ctx, env, w.Binary, args...)
}

// measured runs a command and writes its peak resident set, as getrusage(2) counts it,
// to a file. A child of the test itself would count the test's own memory.
const measured = `import os, sys
pid = os.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as peak:
    peak.write(str(usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024))
sys.exit(os.waitstatus_to_exitcode(status))
`

// PeakMemory runs the command line and measures its peak resident set, in bytes; at
// least some 10 MB of the measuring process.
func (w *World) PeakMemory(ctx context.Context, env []string, args ...string) (Result, int64, error) {
	file, err := os.CreateTemp(w.Dir, "peak-")
	if err != nil {
		return Result{}, 0, err
	}
	defer func() { _ = file.Close() }()
	result, err := w.command(ctx, env, "python3", append([]string{"-c", measured, file.Name(), w.Binary}, args...)...)
	if err != nil {
		return result, 0, err
	}
	var peak int64
	if _, err := fmt.Fscan(file, &peak); err != nil {
		return result, 0, fmt.Errorf("read the peak memory: %w\n%s", err, result.Stderr)
	}
	return result, peak, nil
}

func (w *World) command(ctx context.Context, env []string, program string, args ...string) (Result, error) {
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(w.Env(), env...), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() == nil && errors.As(err, &exit) {
		err = nil // the exit code says it
	}
	return Result{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}, err
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
