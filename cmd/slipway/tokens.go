package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"slipway/internal/redact"
)

// tokens are the bearer tokens of the environment and of a file, which is read
// again when it changes, so that rotation needs no restart.
type tokens struct {
	fixed []string
	file  string
	log   *slog.Logger
	// redactor hides the tokens of the file too.
	redactor *redact.Redactor

	mu   sync.Mutex
	seen time.Time // the file's change that was read last
	read []string
}

func newTokens(cfg Config, log *slog.Logger, redactor *redact.Redactor) (*tokens, error) {
	t := &tokens{file: cfg.AuthTokensFile, log: log, redactor: redactor}
	for _, token := range cfg.AuthTokens {
		t.fixed = append(t.fixed, string(token))
	}
	if t.file == "" {
		return t, nil
	}
	if err := t.reload(); err != nil {
		return nil, &usageError{"SLIPWAY_AUTH_TOKENS_FILE: " + err.Error()}
	}
	if len(t.read) == 0 {
		return nil, &usageError{fmt.Sprintf("SLIPWAY_AUTH_TOKENS_FILE: %s holds no token", t.file)}
	}
	return t, nil
}

// now lists the valid tokens. While the file cannot be read, those last read stay
// valid.
func (t *tokens) now() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file != "" {
		if err := t.reload(); err != nil {
			t.log.Error("SLIPWAY_AUTH_TOKENS_FILE cannot be read; the tokens last read stay valid", "error", err.Error())
		}
	}
	return append(t.fixed[:len(t.fixed):len(t.fixed)], t.read...)
}

func (t *tokens) reload() error {
	info, err := os.Stat(t.file)
	if err != nil {
		return err
	}
	if info.ModTime().Equal(t.seen) {
		return nil
	}
	text, err := os.ReadFile(t.file)
	if err != nil {
		return err
	}
	var read []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			read = append(read, line)
		}
	}
	if len(read) == 0 && len(t.read) > 0 {
		return fmt.Errorf("%s holds no token any more", t.file)
	}
	t.redactor.Keep(read...)
	t.read, t.seen = read, info.ModTime()
	return nil
}

// pause keeps serving while load balancers learn that this one is unready.
func pause(ctx context.Context, cfg Config) {
	select {
	case <-time.After(cfg.ShutdownDelay):
	case <-ctx.Done():
	}
}
