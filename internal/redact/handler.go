package redact

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
)

// Handler hides secrets in all that a logger is given before h sees it: messages,
// keys, and values of any kind, in groups too. Numbers, times and durations stay
// what they are, but for a number that is a secret.
func (r *Redactor) Handler(h slog.Handler) slog.Handler {
	if r == nil {
		return h
	}
	return &logHandler{redactor: r, next: h}
}

type logHandler struct {
	redactor *Redactor
	next     slog.Handler
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	redacted := slog.NewRecord(record.Time, record.Level, h.redactor.Text(record.Message), record.PC)
	record.Attrs(func(a slog.Attr) bool {
		redacted.AddAttrs(h.redactor.attr(a))
		return true
	})
	return h.next.Handle(ctx, redacted)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.redactor, h.next.WithAttrs(h.redactor.attrs(attrs))}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.redactor, h.next.WithGroup(h.redactor.Text(name))}
}

func (r *Redactor) attrs(attrs []slog.Attr) []slog.Attr {
	redacted := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		redacted[i] = r.attr(a)
	}
	return redacted
}

func (r *Redactor) attr(a slog.Attr) slog.Attr {
	value := a.Value.Resolve()
	switch value.Kind() {
	case slog.KindGroup:
		value = slog.GroupValue(r.attrs(value.Group())...)
	case slog.KindString:
		value = slog.StringValue(r.Text(value.String()))
	case slog.KindInt64, slog.KindUint64, slog.KindFloat64:
		if r.isWhole(value.String()) {
			value = slog.StringValue(Mask)
		}
	case slog.KindAny, slog.KindLogValuer:
		value = r.value(value.Any())
	}
	return slog.Attr{Key: r.Text(a.Key), Value: value}
}

// value redacts a value of any type, by its JSON unless it has a text of its own.
// A method of it that panics must not take the process down, as with slog's own
// handlers.
func (r *Redactor) value(v any) (redacted slog.Value) {
	defer func() {
		if p := recover(); p != nil {
			redacted = slog.StringValue(r.Text(fmt.Sprintf("!PANIC: %v", p)))
		}
	}()
	switch v := v.(type) {
	case nil, *slog.Source:
		return slog.AnyValue(v)
	case error:
		return slog.StringValue(r.Text(v.Error()))
	case json.RawMessage:
		return slog.AnyValue(json.RawMessage(r.JSON(v)))
	case []byte:
		return slog.StringValue(r.Text(string(v)))
	}
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(v) != nil {
		return slog.StringValue(r.Text(fmt.Sprintf("%+v", v)))
	}
	doc := r.JSON(bytes.TrimSpace(encoded.Bytes()))
	var text string
	if json.Unmarshal(doc, &text) == nil && string(doc) != "null" {
		return slog.StringValue(text)
	}
	return slog.AnyValue(json.RawMessage(doc))
}
