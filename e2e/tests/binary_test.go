package tests

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"slipway/e2e/world"
)

// TestBinary: what the image holds is static, the same for the same sources
// wherever they lie, and together with the certificate authorities (0.3 MB) at most
// 25 MB.
func TestBinary(t *testing.T) {
	var built [2][]byte
	for i := range built {
		folder := filepath.Join(t.TempDir(), "sources")
		if err := os.CopyFS(folder, os.DirFS(world.Root())); err != nil {
			t.Fatal(err)
		}
		make := exec.CommandContext(t.Context(), "make", "build", "VERSION=test")
		make.Dir = folder
		if out, err := make.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		data, err := os.ReadFile(filepath.Join(folder, "bin", "slipway"))
		if err != nil {
			t.Fatal(err)
		}
		built[i] = data
	}
	if sha256.Sum256(built[0]) != sha256.Sum256(built[1]) {
		t.Error("two builds of the same sources differ")
	}
	if size := len(built[0]); size > 24_600_000 {
		t.Errorf("%d bytes", size)
	}
	file, err := elf.NewFile(bytes.NewReader(built[0]))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) != 0 {
		t.Errorf("it wants %v, %v", libraries, err)
	}
	t.Logf("%d bytes, sha256 %x", len(built[0]), sha256.Sum256(built[0]))
}
