// Package prefectserver installs and runs real Prefect servers, and PostgreSQL
// beside them, as processes of this machine.
package prefectserver

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"slipway/e2e/process"
)

// The lock files name every package with its version; design notes say which
// newer ones fail. Made with `uv pip compile --universal --python-version 3.10`
// (3.11 with prefect-kubernetes 0.8.0).
//
//go:embed requirements-*.txt
var locks embed.FS

// Names of lock files. Those with the Python worker are what Slipway is compared
// with; prefect-kubernetes 0.8.0 needs Python >= 3.11.
const (
	Prefect3 = "3.8.8"
	Worker3  = "3.8.8-worker"   // and prefect-kubernetes 0.8.0
	Worker2  = "2.20.25-worker" // and prefect-kubernetes 0.4.6
)

// Venv is a virtual environment with one version of Prefect.
type Venv struct {
	Dir     string
	Version string
}

// Bin is the path of one of its programs.
func (v *Venv) Bin(name string) string { return filepath.Join(v.Dir, "bin", name) }

// Preflight reports what this machine lacks for Install.
func Preflight(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "python3", "-c", "import sys, venv, ensurepip; assert sys.version_info >= (3, 10), sys.version").CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("python3 is not installed: Prefect's server needs Python >= 3.10")
	}
	if err != nil {
		return fmt.Errorf("python3 must be >= 3.10 with the modules venv and ensurepip (Debian: apt-get install python3-venv): %s", strings.TrimSpace(string(out)))
	}
	return nil
}

// Install makes a virtual environment from a lock file, unless the cache has it.
// Processes that ask for the same one wait for each other.
func Install(ctx context.Context, log io.Writer, name string) (*Venv, error) {
	if err := Preflight(ctx); err != nil {
		return nil, err
	}
	lock, err := locks.ReadFile("requirements-" + name + ".txt")
	if err != nil {
		return nil, fmt.Errorf("no lock file for Prefect %s: %w", name, err)
	}
	cache, err := process.CacheDir("prefect")
	if err != nil {
		return nil, err
	}
	unlock, err := process.Lock(filepath.Join(cache, name+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	version, _, _ := strings.Cut(name, "-")
	v := &Venv{Dir: filepath.Join(cache, name), Version: version}
	return v, v.install(ctx, log, name, lock)
}

// install does the work, and stamps it with what it was made from.
func (v *Venv) install(ctx context.Context, log io.Writer, name string, lock []byte) error {
	python, err := exec.CommandContext(ctx, "python3", "--version").Output()
	if err != nil {
		return fmt.Errorf("python3 --version: %w", err)
	}
	stamp := filepath.Join(v.Dir, "made-from.txt")
	madeFrom := append(python, lock...)
	if installed, err := os.ReadFile(stamp); err == nil && bytes.Equal(installed, madeFrom) {
		return nil
	}
	_, _ = fmt.Fprintf(log, "installing Prefect %s into a virtual environment: about a minute the first time\n", name)
	if err := os.RemoveAll(v.Dir); err != nil {
		return err
	}
	requirements := v.Dir + ".txt"
	if err := os.WriteFile(requirements, lock, 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"python3", "-m", "venv", v.Dir},
		{v.Bin("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", requirements},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return os.WriteFile(stamp, madeFrom, 0o644)
}
