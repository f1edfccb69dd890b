package prefect

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// Log is a line of a flow run's log. Level is a number of Python's logging.
type Log struct {
	Name      string    `json:"name"`
	Level     int       `json:"level"`
	Message   string    `json:"message"`
	Timestamp time.Time `json:"timestamp"`
	FlowRunID string    `json:"flow_run_id"`
}

// maxMessageBytes bounds one message: Prefect Cloud refuses those above 25,000 bytes.
const maxMessageBytes = 20_000

// CreateLogs writes lines of any number of runs, in requests of at most 512 KiB and
// 1000 lines, and of less where the server or a proxy refuses that (HTTP 413). A
// message of more than 20,000 bytes becomes several lines. A request that fails does
// not keep the others from being sent; their errors come joined.
func (c *Client) CreateLogs(ctx context.Context, logs []Log) error {
	var lines []Log
	for _, log := range logs {
		// PostgreSQL stores no NUL, and would refuse the whole request for it.
		message := strings.ReplaceAll(log.Message, "\x00", "\uFFFD")
		for _, part := range splitMessage(message, maxMessageBytes) {
			line := log
			line.Message = part
			lines = append(lines, line)
		}
	}
	return postAll(ctx, c, "write logs", "/logs/", lines)
}

// splitMessage splits a message into parts of at most so many bytes: behind the last
// line break that fits, which is left out, else before a rune that does not fit.
func splitMessage(message string, most int) []string {
	var parts []string
	for len(message) > most {
		if end := strings.LastIndexByte(message[:most+1], '\n'); end > 0 {
			parts = append(parts, message[:end])
			message = message[end+1:]
			continue
		}
		end := runeStart(message, most)
		parts = append(parts, message[:end])
		message = message[end:]
	}
	if message != "" || len(parts) == 0 {
		parts = append(parts, message)
	}
	return parts
}

// runeStart is the last place up to at, which is within the text, where a rune
// begins. Bytes that are no UTF-8 count as runes.
func runeStart(text string, at int) int {
	for back := range min(at, utf8.UTFMax) {
		if utf8.RuneStart(text[at-back]) {
			return at - back
		}
	}
	return at
}

// FlowRunLogs reads the newest lines of a run's log, the newest first, at most 200.
func (c *Client) FlowRunLogs(ctx context.Context, runID string) ([]Log, error) {
	lines, _, err := readPage[Log](ctx, c, call{op: "read the log of flow run " + runID, method: http.MethodPost, path: "/logs/filter"}, map[string]any{
		"logs": map[string]any{"flow_run_id": anyOf(runID)}, "sort": "TIMESTAMP_DESC",
	}, 0)
	return lines, err
}
