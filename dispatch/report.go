package dispatch

import "time"

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
	// run stays PENDING under its claim; a later pass settles it.
	Unknown Outcome = "unknown"
	// Failed: nothing was claimed because a server could not be asked.
	Failed Outcome = "failed"
)

// Request says what one pass looks at. A pass makes its own poll: nothing here
// is a licence to claim a run that the poll does not return.
type Request struct {
	WorkPools  []string      // names; at least one
	WorkQueues []string      // names; none means every queue of the pool
	FlowRunIDs []string      // only these runs, if the poll returns them; none means every run
	LookAhead  time.Duration // claim runs due within this time; 0 means due now
	Sweep      bool          // repair afterwards what others left behind
	Limit      int           // the most runs submitted per pool; 0 means no limit
}

// Report is the result of one pass over one work pool.
type Report struct {
	Pool         string       `json:"pool"`
	Found        int          `json:"found"` // runs that the poll returned
	Submitted    int          `json:"submitted"`
	Duplicate    int          `json:"duplicate"`
	Skipped      int          `json:"skipped"`
	Refused      int          `json:"refused"`
	Unclaimed    int          `json:"unclaimed"`
	Unknown      int          `json:"unknown"`
	Failed       int          `json:"failed"`
	Milliseconds int64        `json:"milliseconds"`
	Paused       bool         `json:"paused,omitempty"`
	Warnings     []string     `json:"warnings,omitempty"` // about the pool as a whole
	Error        string       `json:"error,omitempty"`    // why the pass ended early
	Runs         []RunReport  `json:"runs"`
	Sweep        *SweepReport `json:"sweep,omitempty"`
}

// RunReport is one line of a Report.
type RunReport struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Outcome      Outcome  `json:"outcome"`
	Job          string   `json:"job,omitempty"`
	Namespace    string   `json:"namespace,omitempty"`
	Milliseconds int64    `json:"milliseconds"`
	Reason       string   `json:"reason,omitempty"`
	Warnings     []string `json:"warnings,omitempty"` // the API server's and the renderer's
}

// add counts a run and keeps its line.
func (r *Report) add(run RunReport) {
	switch run.Outcome {
	case Submitted:
		r.Submitted++
	case Duplicate:
		r.Duplicate++
	case Skipped:
		r.Skipped++
	case Refused:
		r.Refused++
	case Unclaimed:
		r.Unclaimed++
	case Unknown:
		r.Unknown++
	case Failed:
		r.Failed++
	}
	r.Runs = append(r.Runs, run)
}

// Left reports whether the pass leaves work that only a later trigger can do.
func (r *Report) Left() bool { return r.Unclaimed+r.Unknown+r.Failed > 0 }
