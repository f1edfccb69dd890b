package dispatch

import (
	"context"
	"slices"
	"time"

	"slipway/prefect"
)

// Levels as Python's logging numbers them, which the UI shows by name.
const (
	levelInfo    = 20
	levelWarning = 30
	levelError   = 40
)

// loggerName is the one under which the UI shows a worker's lines.
const loggerName = "prefect.flow_runs.worker"

// tell writes a line for the flow run's page in the UI.
func (f *flight) tell(level int, message string) {
	entry := prefect.Log{
		Name:      loggerName,
		Level:     level,
		Message:   f.redact(message),
		Timestamp: f.Now().UTC(),
		FlowRunID: f.run.ID,
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs = append(f.logs, entry)
}

// sendLogs sends the lines of the whole pass, best effort: the runs are under
// way, whatever becomes of their log.
func (p *pass) sendLogs(ctx context.Context) {
	const (
		perRequest = 1000 // far below the server's 4 MB for lines of this length
		patience   = 10 * time.Second
	)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for lines := range slices.Chunk(p.logs, perRequest) {
		if err := p.Prefect.CreateLogs(ctx, lines); err != nil {
			p.report.Warnings = append(p.report.Warnings, "log lines were not taken: "+p.plain(err))
			return
		}
	}
}
