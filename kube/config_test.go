package kube_test

import (
	"path/filepath"
	"strings"
	"testing"

	"slipway/kube"
)

func TestLoadConfigWithoutItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if _, err := kube.LoadConfig(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
}
