package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"slipway/e2e/prefectserver"
	"slipway/e2e/process"
)

// What the first build of the control plane and the servers need.
const (
	needDisk   = 8 << 30 // modules, Go's build cache, binary, virtual environment
	needMemory = 3 << 30
)

// preflight names everything that is missing before the long build begins.
func preflight(ctx context.Context, o Options) error {
	faults := []error{prefectserver.Preflight(ctx)}
	if o.Postgres {
		faults = append(faults, prefectserver.PreflightPostgres())
	}
	if _, err := exec.LookPath("go"); err != nil {
		faults = append(faults, errors.New("go is not installed: Go >= 1.26 is needed"))
	}
	cache, err := process.CacheDir("kube")
	faults = append(faults, err)
	if entries, _ := os.ReadDir(cache); len(entries) == 0 {
		faults = append(faults, enoughDisk(cache), enoughMemory())
	}
	return errors.Join(faults...)
}

func enoughDisk(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return nil // no reason to stop
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < needDisk {
		return fmt.Errorf("%s has %d MB free: the first build needs %d MB", dir, free>>20, needDisk>>20)
	}
	return nil
}

// enoughMemory asks Linux; elsewhere it is content.
func enoughMemory() error {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		var kB uint64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kB); err == nil && kB<<10 < needMemory {
			return fmt.Errorf("%d MB of memory are free: the first build needs %d MB", kB>>10, needMemory>>20)
		}
	}
	return nil
}
