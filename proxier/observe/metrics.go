package observe

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of the data path, by Service port. Client and endpoint
// addresses are never labels: their number has no bound.
//
// A port keeps plain numbers, and its series are made when they are read: there may
// be very many ports, most of which nobody uses. Of one that nothing has been sent to
// yet there is only what says how many endpoints it has.
type Metrics struct {
	connect prometheus.Histogram
	// How long connections and sessions lasted.
	connectionLife, sessionLife prometheus.Observer

	mu      sync.Mutex
	ports   map[ServicePort]*PortMetrics
	made    uint64 // how many ports there have ever been
	folding folding
}

// ServicePort is whose connections and sessions are told of and counted.
type ServicePort struct {
	Namespace, Service, PortName string
	Protocol                     string // tcp or udp
}

// The series of a port.
var (
	connections = lifetimes{
		opened: counter("usher_connections_total", "Connections accepted."),
		active: gauge("usher_connections_active", "Connections being served now."),
		closes: counter("usher_connection_closes_total", "Connections ended, by reason.", "reason"),
	}
	sessions = lifetimes{
		opened: counter("usher_udp_sessions_total", "UDP sessions begun: a client's address and port, and an endpoint."),
		active: gauge("usher_udp_sessions_active", "UDP sessions there are now."),
		closes: counter("usher_udp_session_closes_total", "UDP sessions ended, by reason.", "reason"),
	}
	relayed   = counter("usher_bytes_total", "Bytes relayed; in is from the client.", "direction")
	datagrams = counter("usher_udp_datagrams_total", "Datagrams relayed; in is from the client.", "direction")
	drops     = counter("usher_udp_drops_total", "Datagrams that were not relayed, by cause.", "cause")
	attempted = counter("usher_connect_attempts_total", "Attempts to connect to an endpoint, by result.", "result")
	retries   = counter("usher_retries_total", "Attempts after the first one of a connection.")
	retried   = counter("usher_retry_success_total", "Connections that an endpoint was found for after an attempt had failed.")
	denied    = counter("usher_retries_denied_total", "Connections that had no further attempt because the retry budget was used up.")
	waiting   = gauge("usher_connections_waiting", "Connections that wait for their turn at a limit now.")
	ejections = counter("usher_endpoint_ejections_total", "Endpoints found to be ill, by what found it: connections or check.", "cause")
	endpoints = gauge("usher_endpoints", "Endpoints of a Service port, by state.", "family", "state")
	affinity  = gauge("usher_affinity_clients", "Clients whose endpoint is remembered for session affinity.")
	evicted   = counter("usher_affinity_evicted_total", "Clients forgotten before their time to make room for others.")
)

// lifetimes count what begins and ends: connections, or UDP sessions.
type lifetimes struct{ opened, active, closes *family }

// NewMetrics registers the data path's metrics, and those of log and ring. ring may be
// nil.
func NewMetrics(registry prometheus.Registerer, log *Log, ring *Ring) *Metrics {
	m := &Metrics{ports: map[ServicePort]*PortMetrics{}}
	m.connect = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "usher_connect_duration_seconds",
		Help:    "Time that successful attempts to connect to an endpoint took.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
	})
	lives := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "usher_connection_duration_seconds",
		Help:    "Time from the beginning to the end of connections, and of UDP sessions.",
		Buckets: prometheus.ExponentialBuckets(0.001, 5, 10),
	}, []string{"protocol"})
	m.connectionLife, m.sessionLife = lives.WithLabelValues("tcp"), lives.WithLabelValues(udp)
	registry.MustRegister(m, m.connect, lives)
	measureLog(registry, log, ring)
	return m
}

// Describe is that of prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, f := range families {
		to <- f.desc
	}
	to <- foldedPorts
}

// PortMetrics are the metrics of one Service port. A port has only the series of its
// own protocol, and they begin with the first connection or datagram. Methods are safe
// for concurrent use where they do not say otherwise.
type PortMetrics struct {
	all *Metrics
	ServicePort
	number   uint64   // among those of all
	counting counting // belongs to folding
	sampler  sampler  // of the log

	used     atomic.Bool // something has been sent to it
	opens    atomic.Uint64
	active   atomic.Int64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
	retries  atomic.Uint64 // not of UDP, as the next three
	retried  atomic.Uint64
	denied   atomic.Uint64
	waiting  atomic.Int64
	udp      *udpMetrics // nil for others

	mu        sync.Mutex
	closes    tally
	trouble   uint64 // of them
	attempts  tally
	ejections tally
	endpoints [len(endpointFamilies)]endpointCounts
	affinity  *affinityMetrics // nil without it
	evicted   uint64           // of all times
}

// endpointFamilies and endpointStates are the labels of usher_endpoints.
var (
	endpointFamilies = [...]string{"IPv4", "IPv6"}
	endpointStates   = [...]string{"usable", "ejected", "local", "excluded"}
)

// endpointCounts are those of a family, by endpointStates.
type endpointCounts struct {
	n    [len(endpointStates)]int32
	told [len(endpointStates)]bool // there is a series
}

func (c *endpointCounts) set(state, n int) {
	c.n[state] = int32(n)
	c.told[state] = c.told[state] || n > 0 || endpointStates[state] == "usable" || endpointStates[state] == "ejected"
}

// affinityMetrics are as Affinity was told last.
type affinityMetrics struct {
	clients int
	evicted uint64
}

// tally counts by a label of few values.
type tally []count

type count struct {
	of string
	n  uint64
}

func (t *tally) add(of string) {
	for i := range *t {
		if c := &(*t)[i]; c.of == of {
			c.n++
			return
		}
	}
	*t = append(*t, count{of, 1})
}

// Port returns the metrics of a Service port. The protocol is tcp or udp.
func (m *Metrics) Port(namespace, service, port, protocol string) *PortMetrics {
	name := ServicePort{namespace, service, port, protocol}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.ports[name]
	if p == nil {
		m.made++
		p = &PortMetrics{all: m, ServicePort: name, number: m.made}
		if protocol == udp {
			p.udp = &udpMetrics{}
		}
		m.ports[name] = p
	}
	return p
}

// Ill sets how many endpoints of a family are left out although they are ready.
func (p *PortMetrics) Ill(family string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.endpointsOf(family); c != nil {
		c.set(1, n)
	}
}

// Endpoints sets how many endpoints of a family are usable, how many there are
// on this node, and how many were left out.
func (p *PortMetrics) Endpoints(family string, usable, local, excluded int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.endpointsOf(family); c != nil {
		c.set(0, usable)
		c.set(2, local)
		c.set(3, excluded)
	}
}

// endpointsOf are the counts of a family, nil if there is no such family.
func (p *PortMetrics) endpointsOf(family string) *endpointCounts {
	i := slices.Index(endpointFamilies[:], family)
	if i < 0 {
		return nil
	}
	return &p.endpoints[i]
}

// Affinity sets how many clients are remembered, and how many ever had to be
// forgotten before their time. It belongs to one goroutine.
func (p *PortMetrics) Affinity(clients int, evicted uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.affinity == nil {
		p.affinity = &affinityMetrics{}
	}
	p.evicted += evicted - p.affinity.evicted
	*p.affinity = affinityMetrics{clients, evicted}
}

// NoAffinity drops what Affinity has set, in the same goroutine.
func (p *PortMetrics) NoAffinity() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.affinity = nil
}

// Forget deletes the series of a Service port that is gone. Nothing brings them back.
func (p *PortMetrics) Forget() {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if p.all.ports[p.ServicePort] == p {
		delete(p.all.ports, p.ServicePort)
		p.all.folding.forget(p)
	}
}

func (p *PortMetrics) opened() {
	p.use()
	p.opens.Add(1)
	p.active.Add(1)
}

// use notes that something was sent to the port. It only reads where that is known:
// others count at the same time.
func (p *PortMetrics) use() {
	if !p.used.Load() {
		p.used.Store(true)
	}
}

func (p *PortMetrics) closed(r *Record) {
	p.active.Add(-1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closes.add(string(r.Reason))
	if r.Trouble() {
		p.trouble++
	}
	if p.udp == nil {
		p.connectionClosed(r)
		p.all.connectionLife.Observe(r.Duration.Seconds())
	} else {
		p.all.sessionLife.Observe(r.Duration.Seconds())
	}
}

// connectionClosed counts what of a connection is known only now. UDP has been
// counted by Datagrams, and has no attempts to connect.
func (p *PortMetrics) connectionClosed(r *Record) {
	add(&p.bytesIn, int(r.BytesIn))
	add(&p.bytesOut, int(r.BytesOut))
	failed := false
	for i, a := range r.Attempts {
		p.attempts.add(string(a.Result))
		if i > 0 {
			p.retries.Add(1)
		}
		if a.Result == OK {
			p.all.connect.Observe(a.Duration.Seconds())
		}
		failed = failed || a.failed()
	}
	if n := len(r.Attempts); failed && r.Attempts[n-1].Result == OK { // the one that has succeeded is the last
		p.retried.Add(1)
	}
}

// RetryDenied counts a connection that had no further attempt because the retry
// budget was used up. For TCP only.
func (p *PortMetrics) RetryDenied() { p.denied.Add(1) }

// Waits counts a connection that waits for its turn, until done is called. For
// TCP only.
func (p *PortMetrics) Waits() (done func()) {
	p.waiting.Add(1)
	return func() { p.waiting.Add(-1) }
}

// Ejected counts an endpoint that was found to be ill, by connections or by a
// check.
func (p *PortMetrics) Ejected(cause string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ejections.add(cause)
}
