package proxier

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-proxy/usher/proxier/outlier"
)

// metrics are those of the reconcile loop.
type metrics struct {
	duration  prometheus.Histogram
	failures  prometheus.Counter
	last      prometheus.Gauge
	listeners prometheus.Gauge
	problems  *prometheus.GaugeVec
	foreign   prometheus.Counter
	accept    *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "usher_sync_duration_seconds", Help: "Time of one pass from the objects to the kernel.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_sync_failures_total", Help: "Passes that could not write the capture.",
		}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "usher_sync_last_success_timestamp_seconds", Help: "When a pass last succeeded.",
		}),
		listeners: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "usher_listeners", Help: "Service ports being listened for, per address family.",
		}),
		problems: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "usher_problems", Help: "What cannot be served as asked for, by reason; the log names each.",
		}, []string{"reason"}),
		foreign: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_rules_foreign_writes_total", Help: "Times that somebody else was seen to write where the capture has something in the kernel, and all of it was compared.",
		}),
		accept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_accept_errors_total", Help: "Times that a client could not be accepted and accepting paused, by the kernel's name of the error.",
		}, []string{"errno"}),
	}
	registry.MustRegister(m.duration, m.failures, m.last, m.listeners, m.problems, m.foreign, m.accept)
	return m
}

// measureChecks registers what is known of checks and probes of endpoints.
func measureChecks(registry prometheus.Registerer, stats func() outlier.Stats) {
	counter := func(result string, of func(outlier.Stats) uint64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "usher_health_checks_total", ConstLabels: prometheus.Labels{"result": result},
			Help: "Checks and probes of endpoints, by result; unknown: the fault was usher's own, or it was cancelled.",
		}, func() float64 { return float64(of(stats())) }))
	}
	counter("good", func(s outlier.Stats) uint64 { return s.Good })
	counter("bad", func(s outlier.Stats) uint64 { return s.Bad })
	counter("unknown", func(s outlier.Stats) uint64 { return s.Unknown })
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "usher_health_checks_late_total", Help: "Checks and probes that began more than a second after their time.",
	}, func() float64 { return float64(stats().Late) }))
}

func (m *metrics) pass(took time.Duration, ok bool, listeners int, problems []Problem) {
	m.duration.Observe(took.Seconds())
	if ok {
		m.last.SetToCurrentTime()
	} else {
		m.failures.Inc()
	}
	m.listeners.Set(float64(listeners))
	m.problems.Reset()
	for _, p := range problems {
		m.problems.WithLabelValues(p.Reason).Inc()
	}
}
