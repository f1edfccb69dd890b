package process

import (
	"fmt"
	"os"
	"path/filepath"
)

// CacheDir is where builds and virtual environments are kept between runs:
// SLIPWAY_CACHE_DIR, else slipway in the user's cache directory.
func CacheDir(name string) (string, error) {
	base := os.Getenv("SLIPWAY_CACHE_DIR")
	if base == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache directory (set SLIPWAY_CACHE_DIR): %w", err)
		}
		base = filepath.Join(user, "slipway")
	}
	dir := filepath.Join(base, name)
	return dir, os.MkdirAll(dir, 0o755)
}
