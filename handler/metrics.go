package handler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"slipway/dispatch"
)

type metrics struct {
	passes    *prometheus.CounterVec
	runs      *prometheus.CounterVec
	repairs   *prometheus.CounterVec
	seconds   prometheus.Histogram
	hooks     prometheus.Counter
	coalesced prometheus.Counter
}

func newMetrics(registry *prometheus.Registry) *metrics {
	factory := promauto.With(registry)
	return &metrics{
		passes:    factory.NewCounterVec(prometheus.CounterOpts{Name: "slipway_passes_total", Help: "Passes over a work pool, by result (done, failed)."}, []string{"work_pool", "result"}),
		runs:      factory.NewCounterVec(prometheus.CounterOpts{Name: "slipway_flow_runs_total", Help: "Flow runs that passes found due, by outcome."}, []string{"work_pool", "outcome"}),
		repairs:   factory.NewCounterVec(prometheus.CounterOpts{Name: "slipway_repairs_total", Help: "Actions of sweeps on flow runs and Jobs, by action and result (done, failed)."}, []string{"work_pool", "action", "result"}),
		seconds:   factory.NewHistogram(prometheus.HistogramOpts{Name: "slipway_pass_seconds", Help: "Seconds for the passes of one request.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 12)}),
		hooks:     factory.NewCounter(prometheus.CounterOpts{Name: "slipway_hooks_total", Help: "Webhooks received."}),
		coalesced: factory.NewCounter(prometheus.CounterOpts{Name: "slipway_hooks_coalesced_total", Help: "Webhooks that share a pass with an earlier one."}),
	}
}

// passed counts the passes of one request.
func (m *metrics) passed(reports []dispatch.Report, err error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	for _, r := range reports {
		result := "done"
		if r.Error != "" {
			result = "failed"
		}
		m.passes.WithLabelValues(r.Pool, result).Inc()
		for outcome, n := range map[dispatch.Outcome]int{
			dispatch.Submitted: r.Submitted, dispatch.Duplicate: r.Duplicate, dispatch.Skipped: r.Skipped, dispatch.Refused: r.Refused,
			dispatch.Unclaimed: r.Unclaimed, dispatch.Unknown: r.Unknown, dispatch.Failed: r.Failed,
		} {
			m.runs.WithLabelValues(r.Pool, string(outcome)).Add(float64(n))
		}
		if r.Sweep != nil {
			m.swept(*r.Sweep)
		}
	}
	if err != nil && len(reports) == 0 {
		m.passes.WithLabelValues("", "failed").Inc()
	}
}

// swept counts the repairs of a sweep that was no dry run. A repair that another
// sweep or the run itself made unnecessary counts as failed, as in the report.
func (m *metrics) swept(report dispatch.SweepReport) {
	for _, row := range report.Rows {
		if !row.Action.Repairs() {
			continue
		}
		result := "failed"
		if row.Done {
			result = "done"
		}
		m.repairs.WithLabelValues(report.Pool, string(row.Action), result).Inc()
	}
}
