package dispatch

import (
	"slipway/dispatch/claiming"
	"slipway/dispatch/inspect"
	"slipway/dispatch/report"
	"slipway/dispatch/sweep"
	"slipway/dispatch/workpool"
	"slipway/kube"
	"slipway/prefect"
)

// What callers of this package see of the stages.
type (
	Options      = workpool.Options
	Error        = workpool.Error
	Kind         = workpool.Kind
	Request      = claiming.Request
	SweepRequest = sweep.Request
	Report       = report.Pass
	RunReport    = report.Run
	Outcome      = report.Outcome
	SweepReport  = report.Sweep
	SweepRow     = report.Row
	Action       = report.Action
	Subject      = inspect.Subject
	Inspection   = inspect.Inspection
	Verdict      = inspect.Verdict
	Explanation  = inspect.Explanation
	Check        = inspect.Check
	Level        = inspect.Level
	ShadowReport = inspect.ShadowReport
	ShadowRow    = inspect.ShadowRow
)

// MaxLookAhead bounds Request.LookAhead.
const MaxLookAhead = claiming.MaxLookAhead

// Kinds of errors.
const (
	Internal    = workpool.Internal
	Invalid     = workpool.Invalid
	NotFound    = workpool.NotFound
	Denied      = workpool.Denied
	Unavailable = workpool.Unavailable
	Interrupted = workpool.Interrupted
)

// Outcomes of flow runs in a pass.
const (
	Submitted = report.Submitted
	Duplicate = report.Duplicate
	Skipped   = report.Skipped
	Refused   = report.Refused
	Unclaimed = report.Unclaimed
	Unknown   = report.Unknown
	Failed    = report.Failed
)

// Actions of a sweep.
const (
	LeaveAlone = report.LeaveAlone
	Tell       = report.Tell
	WritePID   = report.WritePID
	CreateJob  = report.CreateJob
	PutBack    = report.PutBack
	GiveBack   = report.GiveBack
	Crash      = report.Crash
	DeleteJob  = report.DeleteJob
	Cancel     = report.Cancel
)

// Levels of a doctor's checks.
const (
	OK   = inspect.OK
	Warn = inspect.Warn
	Fail = inspect.Fail
)

// KindOf finds the kind of an error; what is not typed is Internal.
func KindOf(err error) Kind { return workpool.KindOf(err) }

// PodEvent is the event of a pod as the observer of prefect-kubernetes emits it.
func PodEvent(pod kube.PodStatus, prefectVersion string) prefect.Event {
	return sweep.PodEvent(pod, prefectVersion)
}
