package workpool

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"time"

	"slipway/prefect"
)

// Levels as Python's logging numbers them, which the UI shows by name.
const (
	LevelInfo    = 20
	LevelWarning = 30
	LevelError   = 40
)

// LoggerName is the one under which the UI shows a worker's lines.
const LoggerName = "prefect.flow_runs.worker"

// runLog keeps lines for the flow runs' pages in the UI until they are sent.
type runLog struct {
	mu    sync.Mutex
	lines []prefect.Log
	bytes int
}

// maxBuffered bounds what is held of log lines: more is sent at once.
const maxBuffered = 1 << 20

// Tell writes a line for a flow run's page in the UI. Secrets are hidden.
func (s *Session) Tell(ctx context.Context, runID string, level int, message string) {
	s.TellAs(ctx, LoggerName, runID, level, message)
}

// TellAs does the same under the name of another logger.
func (s *Session) TellAs(ctx context.Context, logger, runID string, level int, message string) {
	line := prefect.Log{Name: logger, Level: level, Message: s.Options.Redactor.Text(message), Timestamp: s.ServerNow().UTC(), FlowRunID: runID}
	l := &s.log
	l.mu.Lock()
	l.lines = append(l.lines, line)
	l.bytes += len(line.Message)
	full := l.bytes > maxBuffered
	l.mu.Unlock()
	if full {
		s.Flush(ctx)
	}
}

// Flush sends the lines that are held, best effort: the runs are under way,
// whatever becomes of their log.
func (s *Session) Flush(ctx context.Context) {
	l := &s.log
	l.mu.Lock()
	lines := l.lines
	l.lines, l.bytes = nil, 0
	l.mu.Unlock()
	if len(lines) == 0 {
		return
	}
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if err := s.Prefect.CreateLogs(ctx, lines); err != nil {
		s.Warn("some log lines were not taken: %v", err)
	}
}

// Told is what a run's log says already.
type Told struct {
	Last  string    // the newest line; "": none
	First time.Time // when the oldest was written
}

// Told finds the lines that begin so among the newest of a run's log. The log is all
// the memory that there is between sweeps.
func (s *Session) Told(ctx context.Context, runID, prefix string) (Told, error) {
	lines, err := s.Prefect.FlowRunLogs(ctx, runID)
	if err != nil {
		return Told{}, err
	}
	var told Told
	for _, line := range lines { // the newest first
		if !strings.HasPrefix(line.Message, s.Options.Redactor.Text(prefix)) {
			continue
		}
		if told.Last == "" {
			told.Last = line.Message
		}
		told.First = line.Timestamp
	}
	return told, nil
}

// TellOnce writes a warning that begins with a prefix into a run's log, unless the last
// line that begins so says the same, or the log cannot be read. It returns what the log
// said before.
func (s *Session) TellOnce(ctx context.Context, runID, prefix, message string) Told {
	message = s.Options.Redactor.Text(message) // as the log has it
	told, err := s.Told(ctx, runID, prefix)
	if err == nil && !SameText(told.Last, message) {
		s.Tell(ctx, runID, LevelWarning, message)
	}
	return told
}

// requestIDs are what two refusals of one cause may differ in.
var requestIDs = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|pods "[^"]*"`)

// SameText compares messages but for ids that each request has of its own.
func SameText(a, b string) bool {
	return requestIDs.ReplaceAllString(a, "#") == requestIDs.ReplaceAllString(b, "#")
}
