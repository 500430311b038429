package observe

import (
	"github.com/prometheus/client_golang/prometheus"
)

var portLabels = []string{"namespace", "service", "port_name", "protocol"}

// Metrics are the counters of the data path, one series per Service port.
// Client and endpoint addresses are never labels: their number has no bound.
type Metrics struct {
	connections *prometheus.CounterVec
	active      *prometheus.GaugeVec
	bytes       *prometheus.CounterVec
	closes      *prometheus.CounterVec
	attempts    *prometheus.CounterVec
	retries     *prometheus.CounterVec
	endpoints   *prometheus.GaugeVec
	affinity    *prometheus.GaugeVec
	evicted     *prometheus.CounterVec
	connect     prometheus.Histogram
}

// NewMetrics registers the data path's metrics, and log's drop counter.
func NewMetrics(registry prometheus.Registerer, log *Log) *Metrics {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels(more))
	}
	gauge := func(name, help string, more ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels(more))
	}
	m := &Metrics{
		connections: counter("usher_connections_total", "Connections accepted."),
		active:      gauge("usher_connections_active", "Connections being served now."),
		bytes:       counter("usher_bytes_total", "Bytes relayed; in is from the client.", "direction"),
		closes:      counter("usher_connection_closes_total", "Connections ended, by reason.", "reason"),
		attempts:    counter("usher_connect_attempts_total", "Attempts to connect to an endpoint, by result.", "result"),
		retries:     counter("usher_retries_total", "Attempts after the first one of a connection."),
		endpoints:   gauge("usher_endpoints", "Endpoints of a Service port, by state.", "family", "state"),
		affinity:    gauge("usher_affinity_clients", "Clients whose endpoint is remembered for session affinity."),
		evicted:     counter("usher_affinity_evicted_total", "Clients forgotten before their time to make room for others."),
		connect: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "usher_connect_duration_seconds",
			Help:    "Time that successful attempts to connect to an endpoint took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}),
	}
	registry.MustRegister(m.connections, m.active, m.bytes, m.closes, m.attempts, m.retries, m.endpoints, m.affinity, m.evicted, m.connect,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "usher_log_dropped_total",
			Help: "Connection records dropped because nobody read the log fast enough.",
		}, func() float64 { return float64(log.Dropped()) }))
	return m
}

func labels(more []string) []string {
	return append(append([]string(nil), portLabels...), more...)
}

// PortMetrics are the metrics of one Service port, looked up once.
type PortMetrics struct {
	all                                *Metrics
	namespace, service, port, protocol string

	connections prometheus.Counter
	active      prometheus.Gauge
	bytesIn     prometheus.Counter
	bytesOut    prometheus.Counter
	retries     prometheus.Counter
	evicted     uint64 // as Affinity was told last
}

// Port returns the metrics of a Service port.
func (m *Metrics) Port(namespace, service, port, protocol string) *PortMetrics {
	l := []string{namespace, service, port, protocol}
	return &PortMetrics{
		all: m, namespace: namespace, service: service, port: port, protocol: protocol,
		connections: m.connections.WithLabelValues(l...),
		active:      m.active.WithLabelValues(l...),
		bytesIn:     m.bytes.WithLabelValues(append(l, "in")...),
		bytesOut:    m.bytes.WithLabelValues(append(l, "out")...),
		retries:     m.retries.WithLabelValues(l...),
	}
}

// Endpoints sets how many endpoints of a family are usable, how many there are
// on this node, and how many were left out.
func (p *PortMetrics) Endpoints(family string, usable, local, excluded int) {
	for state, n := range map[string]int{"usable": usable, "local": local, "excluded": excluded} {
		p.all.endpoints.WithLabelValues(p.namespace, p.service, p.port, p.protocol, family, state).Set(float64(n))
	}
}

// Affinity sets how many clients are remembered, and how many ever had to be
// forgotten before their time. It belongs to one goroutine.
func (p *PortMetrics) Affinity(clients int, evicted uint64) {
	l := []string{p.namespace, p.service, p.port, p.protocol}
	p.all.affinity.WithLabelValues(l...).Set(float64(clients))
	p.all.evicted.WithLabelValues(l...).Add(float64(evicted - p.evicted))
	p.evicted = evicted
}

// NoAffinity drops what Affinity has set.
func (p *PortMetrics) NoAffinity() {
	l := []string{p.namespace, p.service, p.port, p.protocol}
	p.all.affinity.DeleteLabelValues(l...)
	p.evicted = 0
}

// Forget deletes the series of a Service port that is gone.
func (p *PortMetrics) Forget() {
	l := prometheus.Labels{"namespace": p.namespace, "service": p.service, "port_name": p.port, "protocol": p.protocol}
	for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		p.all.connections, p.all.active, p.all.bytes, p.all.closes, p.all.attempts, p.all.retries, p.all.endpoints,
		p.all.affinity, p.all.evicted,
	} {
		v.DeletePartialMatch(l)
	}
}

func (p *PortMetrics) opened() {
	p.connections.Inc()
	p.active.Inc()
}

func (p *PortMetrics) closed(r *Record) {
	p.active.Dec()
	p.bytesIn.Add(float64(r.BytesIn))
	p.bytesOut.Add(float64(r.BytesOut))
	p.all.closes.WithLabelValues(p.namespace, p.service, p.port, p.protocol, string(r.Reason)).Inc()
	for i, a := range r.Attempts {
		p.all.attempts.WithLabelValues(p.namespace, p.service, p.port, p.protocol, string(a.Result)).Inc()
		if i > 0 {
			p.retries.Inc()
		}
		if a.Result == OK {
			p.all.connect.Observe(a.Duration.Seconds())
		}
	}
}
