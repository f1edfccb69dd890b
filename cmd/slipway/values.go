package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"slipway/internal/redact"
)

// Secret is a text that no log and no message shows.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redact.Mask
}

func (s Secret) GoString() string             { return s.String() }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(s.String()) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil } //nolint:unparam // encoding.TextMarshaler

// List is separated by commas; spaces around and empty parts are dropped.
type List []string

// Decode reads a List for envconfig.
func (l *List) Decode(value string) error {
	*l = nil
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l = append(*l, part)
		}
	}
	return nil
}

// SecretList is a List of Secrets.
type SecretList []Secret

// Decode reads a SecretList for envconfig.
func (l *SecretList) Decode(value string) error {
	var plain List
	if err := plain.Decode(value); err != nil {
		return err
	}
	*l = nil
	for _, s := range plain {
		*l = append(*l, Secret(s))
	}
	return nil
}

// Headers is a JSON object of strings; the values may be secrets.
type Headers map[string]string

// Decode reads Headers for envconfig. Its errors show no value.
func (h *Headers) Decode(value string) error {
	if value == "" {
		return nil
	}
	if json.Unmarshal([]byte(value), (*map[string]string)(h)) != nil {
		return errors.New("no JSON object of strings")
	}
	return nil
}

func (h Headers) String() string       { return redact.Mask }
func (h Headers) GoString() string     { return redact.Mask }
func (h Headers) LogValue() slog.Value { return slog.StringValue(redact.Mask) }

// Limits are durations by name: ImagePullError:10m,Unschedulable:1h.
type Limits map[string]time.Duration

// Decode reads Limits for envconfig.
func (l *Limits) Decode(value string) error {
	var pairs List
	if err := pairs.Decode(value); err != nil {
		return err
	}
	*l = Limits{}
	for _, pair := range pairs {
		name, text, _ := strings.Cut(pair, ":")
		limit, err := time.ParseDuration(strings.TrimSpace(text))
		if err != nil {
			return errors.New("a name and a duration are wanted")
		}
		(*l)[strings.TrimSpace(name)] = limit
	}
	return nil
}
