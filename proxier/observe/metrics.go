package observe

import (
	"github.com/prometheus/client_golang/prometheus"
)

var portLabels = []string{"namespace", "service", "port_name", "protocol"}

// Metrics are the counters of the data path, one series per Service port.
// Client and endpoint addresses are never labels: their number has no bound.
type Metrics struct {
	connections lifetimes
	sessions    lifetimes // of UDP
	bytes       *prometheus.CounterVec
	datagrams   *prometheus.CounterVec
	drops       *prometheus.CounterVec
	attempts    *prometheus.CounterVec
	retries     *prometheus.CounterVec
	retried     *prometheus.CounterVec
	denied      *prometheus.CounterVec
	waiting     *prometheus.GaugeVec
	ejections   *prometheus.CounterVec
	endpoints   *prometheus.GaugeVec
	affinity    *prometheus.GaugeVec
	evicted     *prometheus.CounterVec
	connect     prometheus.Histogram

	byPort []vector // all that have portLabels
}

// lifetimes count what begins and ends: connections, or UDP sessions.
type lifetimes struct {
	opened *prometheus.CounterVec
	active *prometheus.GaugeVec
	closes *prometheus.CounterVec
}

type vector interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

// NewMetrics registers the data path's metrics, and log's drop counter.
func NewMetrics(registry prometheus.Registerer, log *Log) *Metrics {
	m := &Metrics{}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels(more))
		m.byPort = append(m.byPort, v)
		return v
	}
	gauge := func(name, help string, more ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels(more))
		m.byPort = append(m.byPort, v)
		return v
	}
	m.connections = lifetimes{
		opened: counter("usher_connections_total", "Connections accepted."),
		active: gauge("usher_connections_active", "Connections being served now."),
		closes: counter("usher_connection_closes_total", "Connections ended, by reason.", "reason"),
	}
	m.sessions = lifetimes{
		opened: counter("usher_udp_sessions_total", "UDP sessions begun: a client's address and port, and an endpoint."),
		active: gauge("usher_udp_sessions_active", "UDP sessions there are now."),
		closes: counter("usher_udp_session_closes_total", "UDP sessions ended, by reason.", "reason"),
	}
	m.bytes = counter("usher_bytes_total", "Bytes relayed; in is from the client.", "direction")
	m.datagrams = counter("usher_udp_datagrams_total", "Datagrams relayed; in is from the client.", "direction")
	m.drops = counter("usher_udp_drops_total", "Datagrams that were not relayed, by cause.", "cause")
	m.attempts = counter("usher_connect_attempts_total", "Attempts to connect to an endpoint, by result.", "result")
	m.retries = counter("usher_retries_total", "Attempts after the first one of a connection.")
	m.retried = counter("usher_retry_success_total", "Connections that an endpoint was found for after an attempt had failed.")
	m.denied = counter("usher_retries_denied_total", "Connections that had no further attempt because the retry budget was used up.")
	m.waiting = gauge("usher_connections_waiting", "Connections that wait for their turn at a limit now.")
	m.ejections = counter("usher_endpoint_ejections_total", "Endpoints found to be ill, by what found it: connections or check.", "cause")
	m.endpoints = gauge("usher_endpoints", "Endpoints of a Service port, by state.", "family", "state")
	m.affinity = gauge("usher_affinity_clients", "Clients whose endpoint is remembered for session affinity.")
	m.evicted = counter("usher_affinity_evicted_total", "Clients forgotten before their time to make room for others.")
	m.connect = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "usher_connect_duration_seconds",
		Help:    "Time that successful attempts to connect to an endpoint took.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
	})
	for _, v := range m.byPort {
		registry.MustRegister(v)
	}
	registry.MustRegister(m.connect,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "usher_log_dropped_total",
			Help: "Records dropped because nobody read the log fast enough.",
		}, func() float64 { return float64(log.Dropped()) }))
	return m
}

func labels(more []string) []string {
	return append(append([]string(nil), portLabels...), more...)
}

// PortMetrics are the metrics of one Service port, looked up once. A port has
// only the series of its own protocol. Methods are safe for concurrent use where
// they do not say otherwise.
type PortMetrics struct {
	all                                *Metrics
	namespace, service, port, protocol string

	opens    prometheus.Counter
	active   prometheus.Gauge
	closes   *prometheus.CounterVec
	bytesIn  prometheus.Counter
	bytesOut prometheus.Counter
	retries  prometheus.Counter // nil for UDP, as the next three
	retried  prometheus.Counter
	denied   prometheus.Counter
	waiting  prometheus.Gauge
	udp      *udpMetrics // nil for others
	evicted  uint64      // as Affinity was told last
}

// Port returns the metrics of a Service port. The protocol is tcp or udp.
func (m *Metrics) Port(namespace, service, port, protocol string) *PortMetrics {
	l := []string{namespace, service, port, protocol}
	p := &PortMetrics{
		all: m, namespace: namespace, service: service, port: port, protocol: protocol,
		bytesIn:  m.bytes.WithLabelValues(append(l, "in")...),
		bytesOut: m.bytes.WithLabelValues(append(l, "out")...),
	}
	lives := m.connections
	if protocol == udp {
		lives = m.sessions
		p.udp = m.udp(l)
	} else {
		p.retries, p.retried = m.retries.WithLabelValues(l...), m.retried.WithLabelValues(l...)
		p.denied, p.waiting = m.denied.WithLabelValues(l...), m.waiting.WithLabelValues(l...)
	}
	p.opens, p.active, p.closes = lives.opened.WithLabelValues(l...), lives.active.WithLabelValues(l...), lives.closes
	return p
}

// Ill sets how many endpoints of a family are left out although they are ready.
func (p *PortMetrics) Ill(family string, n int) {
	p.all.endpoints.WithLabelValues(p.namespace, p.service, p.port, p.protocol, family, "ejected").Set(float64(n))
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

// NoAffinity drops what Affinity has set, in the same goroutine.
func (p *PortMetrics) NoAffinity() {
	l := []string{p.namespace, p.service, p.port, p.protocol}
	p.all.affinity.DeleteLabelValues(l...)
	p.evicted = 0
}

// Forget deletes the series of a Service port that is gone. It comes after the
// last Closed: that would bring a series back.
func (p *PortMetrics) Forget() {
	l := prometheus.Labels{"namespace": p.namespace, "service": p.service, "port_name": p.port, "protocol": p.protocol}
	for _, v := range p.all.byPort {
		v.DeletePartialMatch(l)
	}
}

func (p *PortMetrics) opened() {
	p.opens.Inc()
	p.active.Inc()
}

func (p *PortMetrics) closed(r *Record) {
	p.active.Dec()
	p.closes.WithLabelValues(p.namespace, p.service, p.port, p.protocol, string(r.Reason)).Inc()
	if p.udp == nil {
		p.connectionClosed(r)
	}
}

// connectionClosed counts what of a connection is known only now. UDP has been
// counted by Datagrams, and has no attempts to connect.
func (p *PortMetrics) connectionClosed(r *Record) {
	p.bytesIn.Add(float64(r.BytesIn))
	p.bytesOut.Add(float64(r.BytesOut))
	failed := false
	for i, a := range r.Attempts {
		p.all.attempts.WithLabelValues(p.namespace, p.service, p.port, p.protocol, string(a.Result)).Inc()
		if i > 0 {
			p.retries.Inc()
		}
		if a.Result == OK {
			p.all.connect.Observe(a.Duration.Seconds())
		}
		failed = failed || a.failed()
	}
	if n := len(r.Attempts); failed && r.Attempts[n-1].Result == OK { // the one that has succeeded is the last
		p.retried.Inc()
	}
}

// RetryDenied counts a connection that had no further attempt because the retry
// budget was used up. For TCP only.
func (p *PortMetrics) RetryDenied() { p.denied.Inc() }

// Waits counts a connection that waits for its turn, until done is called. For
// TCP only.
func (p *PortMetrics) Waits() (done func()) {
	p.waiting.Inc()
	return p.waiting.Dec
}

// Ejected counts an endpoint that was found to be ill, by connections or by a
// check.
func (p *PortMetrics) Ejected(cause string) {
	p.all.ejections.WithLabelValues(p.namespace, p.service, p.port, p.protocol, cause).Inc()
}
