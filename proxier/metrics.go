package proxier

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of the reconcile loop.
type metrics struct {
	duration  prometheus.Histogram
	failures  prometheus.Counter
	last      prometheus.Gauge
	listeners prometheus.Gauge
	problems  *prometheus.GaugeVec
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
	}
	registry.MustRegister(m.duration, m.failures, m.last, m.listeners, m.problems)
	return m
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
