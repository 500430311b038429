package proxier

import (
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// listener serves one Port on one or more sockets. The reconcile loop owns it
// and everything in it; connections only read what is current.
type listener struct {
	*dataPath
	key     Key
	policy  balancer.Policy
	metrics *observe.PortMetrics
	sockets []*socket
	current atomic.Pointer[state]
	active  atomic.Int64 // connections being served
}

// state is what a connection needs to know of its Port, swapped as one.
type state struct {
	port   *Port
	picker balancer.Picker
}

func newListener(d *dataPath, key Key, policy balancer.Policy, metrics *observe.PortMetrics) *listener {
	return &listener{dataPath: d, key: key, policy: policy, metrics: metrics}
}

// update makes the listener serve port from now on; connections already
// accepted are not touched. The sockets follow: they serve while there is a
// usable endpoint, and refuse while there is none.
func (l *listener) update(port *Port, sockets []*socket) error {
	next := &state{port: port}
	if old := l.current.Load(); old != nil && slices.Equal(old.port.Endpoints, port.Endpoints) {
		next.picker = old.picker
	} else {
		next.picker = l.policy.Picker(port.Endpoints)
		l.metrics.Endpoints(port.Family.String(), len(port.Endpoints), len(port.Excluded))
	}
	l.current.Store(next)
	l.sockets = sockets
	for _, s := range l.sockets {
		if err := l.setServing(s, len(port.Endpoints) > 0); err != nil {
			return fmt.Errorf("%s: %w", l.key, err)
		}
	}
	return nil
}

func (l *listener) setServing(s *socket, serve bool) error {
	switch {
	case serve && !s.serving():
		return s.serve(l.accept, l.acceptFailed)
	case !serve && s.serving():
		return s.refuse()
	}
	return nil
}

// accept gives a new connection its own goroutine. It never blocks.
func (l *listener) accept(client *net.TCPConn) {
	c := &connection{listener: l, client: client, record: l.observer.Open(l.metrics)}
	c.record.ServiceActive = int(l.active.Add(1))
	c.record.GlobalActive = l.connections.add(c)
	go c.serve()
}

func (l *listener) acceptFailed(err error) {
	if l.acceptErrors.allow(time.Now()) {
		l.log.WithField("listener", l.key.String()).WithError(err).
			Warn("cannot accept connections for the moment; new ones wait (is the limit of open files too low?)")
	}
}

// close gives the sockets up. Connections already accepted go on.
func (l *listener) close() {
	for _, s := range l.sockets {
		s.close()
	}
	l.sockets = nil
}
