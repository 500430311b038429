package observe

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Observer is told of every connection and tells everybody else.
// It is safe for concurrent use.
type Observer struct {
	node    string
	log     *Log
	metrics *Metrics
	boot    int64
	last    atomic.Uint64
	// onClosed, if set, gets every record too; it must not block.
	onClosed func(*Record)
}

// New returns an Observer on a node that writes to log and counts in metrics.
// Each record also goes to onClosed, if that is not nil; it must not block.
func New(node string, log *Log, metrics *Metrics, onClosed func(*Record)) *Observer {
	return &Observer{node: node, log: log, metrics: metrics, boot: time.Now().Unix(), onClosed: onClosed}
}

// Open begins the record of a connection to a Service port.
func (o *Observer) Open(port *PortMetrics) *Record {
	port.opened()
	return &Record{
		ID:        fmt.Sprintf("%x-%d", o.boot, o.last.Add(1)),
		Node:      o.node,
		Start:     time.Now(),
		Namespace: port.namespace, Service: port.service, PortName: port.port, Protocol: port.protocol,
		Connect: -1, ClientCloseAt: -1, BackendCloseAt: -1,
		ClientClose: CloseNone, BackendClose: CloseNone, SentClient: CloseNone, SentBackend: CloseNone,
	}
}

// Closed ends the record of a connection: it is counted and logged, once.
func (o *Observer) Closed(port *PortMetrics, r *Record) {
	r.Duration = time.Since(r.Start)
	port.closed(r)
	o.log.add(r)
	if o.onClosed != nil {
		o.onClosed(r)
	}
}
