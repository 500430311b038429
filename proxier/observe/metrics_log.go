package observe

import "github.com/prometheus/client_golang/prometheus"

// measureLog registers what became of records. ring may be nil.
func measureLog(registry prometheus.Registerer, log *Log, ring *Ring) {
	counter := func(name, help string, labels prometheus.Labels, value func() uint64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "usher_log_" + name, Help: help, ConstLabels: labels,
		}, func() float64 { return float64(value()) }))
	}
	sink := log.Name()
	counter("records_total", "Records written.", prometheus.Labels{"sink": sink}, log.Written)

	const dropped = "Records lost: nobody read the log fast enough (queue), it could not be written (write), or a follower read too slowly (follower)."
	counter("dropped_total", dropped, prometheus.Labels{"sink": sink, "cause": "queue"}, log.Dropped)
	counter("dropped_total", dropped, prometheus.Labels{"sink": sink, "cause": "write"}, log.Lost)
	if ring != nil {
		counter("dropped_total", dropped, prometheus.Labels{"sink": "ring", "cause": "follower"}, ring.Lost)
	}

	const omitted = "Records not logged as asked for: by --log-connections or an annotation (sampled) or --log-max-errors (repeated)."
	counter("omitted_total", omitted, prometheus.Labels{"cause": "sampled"}, log.Sampled)
	counter("omitted_total", omitted, prometheus.Labels{"cause": "repeated"}, log.Repeated)
}
