package report

// Action is what a sweep does about a flow run or a Job.
type Action string

const (
	// LeaveAlone: nothing is wrong, or nothing may be done.
	LeaveAlone Action = "none"
	// Tell: its pod does not start, and that may change by itself.
	Tell Action = "report"
	// WritePID: the Job exists and the run does not say where.
	WritePID Action = "write pid"
	// CreateJob: the claim's Job was never made; make it, under the same name.
	CreateJob Action = "create"
	// PutBack: a claim made on a stale page; propose the state that it replaced.
	PutBack Action = "put back"
	// GiveBack: a claim that is not Slipway's and that nobody serves; un-claim it.
	GiveBack Action = "un-claim"
	// Crash: the run will never end by itself.
	Crash Action = "crash"
	// DeleteJob: the Job serves a run that is over or being cancelled.
	DeleteJob Action = "delete Job"
	// Cancel: nothing of the run is left; CANCELLING becomes CANCELLED.
	Cancel Action = "cancel"
)

// Repairs tells whether an action has an effect beside a line in the run's log.
func (a Action) Repairs() bool { return a != LeaveAlone && a != Tell }

// Sweep is the result of one sweep of one work pool.
type Sweep struct {
	Pool     string   `json:"pool"`
	Observed int      `json:"observed"` // runs and Jobs that were looked at
	Repaired int      `json:"repaired"`
	Failed   int      `json:"failed"`           // actions that could not be applied
	Ending   bool     `json:"ending,omitempty"` // pods of cancelled runs are ending: another sweep soon says so
	Warnings []string `json:"warnings,omitempty"`
	Error    string   `json:"error,omitempty"`
	Rows     []Row    `json:"rows"`
}

// Row is one decision.
type Row struct {
	ID      string `json:"id"` // of the flow run
	Name    string `json:"name,omitempty"`
	State   string `json:"state"` // DELETED for a run that is gone
	Job     string `json:"job,omitempty"`
	Action  Action `json:"action"`
	Reason  string `json:"reason"`
	Done    bool   `json:"done"`              // the action was applied
	Outcome string `json:"outcome,omitempty"` // what came of it
}

// Add counts a decision and keeps it. Of a dry run nothing counts as failed.
func (s *Sweep) Add(row Row, dry bool) {
	switch {
	case row.Done:
		s.Repaired++
	case row.Action.Repairs() && !dry:
		s.Failed++
	}
	s.Rows = append(s.Rows, row)
}
