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
	seconds   prometheus.Histogram
	hooks     prometheus.Counter
	coalesced prometheus.Counter
}

func newMetrics(registry *prometheus.Registry) *metrics {
	make := promauto.With(registry)
	return &metrics{
		passes:    make.NewCounterVec(prometheus.CounterOpts{Name: "slipway_passes_total", Help: "Passes over a work pool, by how they ended."}, []string{"work_pool", "result"}),
		runs:      make.NewCounterVec(prometheus.CounterOpts{Name: "slipway_flow_runs_total", Help: "Flow runs met by passes, by what became of them."}, []string{"work_pool", "outcome"}),
		seconds:   make.NewHistogram(prometheus.HistogramOpts{Name: "slipway_pass_seconds", Help: "Time of a request's passes.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 12)}),
		hooks:     make.NewCounter(prometheus.CounterOpts{Name: "slipway_hooks_total", Help: "Webhooks taken."}),
		coalesced: make.NewCounter(prometheus.CounterOpts{Name: "slipway_hooks_coalesced_total", Help: "Webhooks answered by a pass that others asked for too."}),
	}
}

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
	}
	if err != nil && len(reports) == 0 {
		m.passes.WithLabelValues("", "failed").Inc()
	}
}
