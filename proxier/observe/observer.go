package observe

import (
	"sync/atomic"
	"time"
)

// Observer is told of every connection and UDP session, and tells everybody
// else. It is safe for concurrent use.
type Observer struct {
	node    string
	log     *Log
	metrics *Metrics
	ring    *Ring
	boot    int64
	last    atomic.Uint64
	lines   lines
	// onClosed, if set, gets every record too; it must not block.
	onClosed func(*Record)
}

// New returns an Observer on a node that writes to log and counts in metrics.
// Each record also goes into ring and to onClosed, if they are not nil; onClosed must
// not block.
func New(node string, log *Log, metrics *Metrics, ring *Ring, onClosed func(*Record)) *Observer {
	return &Observer{node: node, log: log, metrics: metrics, ring: ring, boot: time.Now().Unix(), onClosed: onClosed}
}

// Open begins a connection to a Service port and its record, which does not tell of its
// end yet.
func (o *Observer) Open(port *PortMetrics) *Record {
	o.Opened(port)
	return o.begin(port, time.Now())
}

// Opened counts what begins. It is cheap and allocates nothing: a UDP session, of
// which there may be very many, gets its record only when it ends.
func (o *Observer) Opened(port *PortMetrics) { port.opened() }

func (o *Observer) begin(port *PortMetrics, start time.Time) *Record {
	return &Record{by: o, number: o.last.Add(1), ServicePort: &port.ServicePort, Start: start, Connect: -1}
}

// Record returns the record of what began at start and ends now, with an ID of its own.
// Whoever was counted by Opened needs exactly one, for Closed. The start has to
// have a monotonic clock reading, else a change of the clock makes the duration
// wrong.
func (o *Observer) Record(port *PortMetrics, start time.Time) *Record {
	r := o.begin(port, start)
	r.End()
	return r
}

// Closed ends the record of a connection or UDP session: it is counted and
// logged, once. The duration is the time since its start.
func (o *Observer) Closed(port *PortMetrics, r *Record) {
	r.End()
	r.Duration = time.Since(r.Start)
	port.closed(r)
	o.ring.add(r)
	if port.sampler.wants(r) {
		o.log.add(r)
	} else {
		o.log.sampled.Add(1)
	}
	if o.onClosed != nil {
		o.onClosed(r)
	}
}
