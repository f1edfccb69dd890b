// Package report holds what a pass and a sweep tell: outcomes, actions and
// reports. It is data only.
package report

// Outcome is what became of one flow run in one pass.
type Outcome string

const (
	// Submitted: the run is claimed and its Job exists.
	Submitted Outcome = "submitted"
	// Duplicate: somebody else owns the claim; nothing was done.
	Duplicate Outcome = "duplicate"
	// Skipped: not tried, or tried without effect (not due, no slot, gone).
	Skipped Outcome = "skipped"
	// Refused: the run is CRASHED (or CANCELLED, its deployment being gone) for good; the reason says why.
	Refused Outcome = "refused"
	// Unclaimed: the claim was given back, because provably no Job was made.
	Unclaimed Outcome = "unclaimed"
	// Unknown: claimed, but whether the Job exists could not be learned. The
	// run stays PENDING under its claim; a later sweep settles it.
	Unknown Outcome = "unknown"
	// Failed: nothing was claimed because a server could not be asked.
	Failed Outcome = "failed"
)

// Pass is the result of one pass over one work pool.
type Pass struct {
	Pool         string   `json:"pool"`
	Found        int      `json:"found"` // runs that the poll returned
	Submitted    int      `json:"submitted"`
	Duplicate    int      `json:"duplicate"`
	Skipped      int      `json:"skipped"`
	Refused      int      `json:"refused"`
	Unclaimed    int      `json:"unclaimed"`
	Unknown      int      `json:"unknown"`
	Failed       int      `json:"failed"`
	Milliseconds int64    `json:"milliseconds"`
	Paused       bool     `json:"paused,omitempty"`
	Warnings     []string `json:"warnings,omitempty"` // about the pool as a whole
	Error        string   `json:"error,omitempty"`    // why the pass ended early
	Runs         []Run    `json:"runs"`
	Sweep        *Sweep   `json:"sweep,omitempty"`
}

// Run is one line of a Pass.
type Run struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Outcome      Outcome  `json:"outcome"`
	Job          string   `json:"job,omitempty"`
	Namespace    string   `json:"namespace,omitempty"`
	Milliseconds int64    `json:"milliseconds"`
	Reason       string   `json:"reason,omitempty"`
	Warnings     []string `json:"warnings,omitempty"` // the API server's and the renderer's
}

// Settled reports whether the run has left the state SCHEDULED.
func (r *Run) Settled() bool {
	return r.Outcome == Submitted || r.Outcome == Duplicate || r.Outcome == Refused
}

// Add counts a run and keeps its line.
func (p *Pass) Add(run Run) {
	switch run.Outcome {
	case Submitted:
		p.Submitted++
	case Duplicate:
		p.Duplicate++
	case Skipped:
		p.Skipped++
	case Refused:
		p.Refused++
	case Unclaimed:
		p.Unclaimed++
	case Unknown:
		p.Unknown++
	case Failed:
		p.Failed++
	}
	p.Runs = append(p.Runs, run)
}
