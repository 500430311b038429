package proxier

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// dataPath is what all connections share.
type dataPath struct {
	log          logrus.FieldLogger
	observer     *observe.Observer
	capture      capture
	balancerName string
	dialer       dialer
	halfClose    time.Duration
	connections  *connections
	acceptErrors *occasionally
}

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
	// former are frontends that are the Port's no more, but that the kernel may
	// still lead here.
	former []Frontend
}

// frontend returns the frontend that a client has reached by dialling dst.
func (s *state) frontend(dst netip.AddrPort) (Frontend, bool) {
	if f, ok := find(s.port.Frontends, dst); ok {
		return f, true
	}
	return find(s.former, dst)
}

func newListener(d *dataPath, key Key, policy balancer.Policy, metrics *observe.PortMetrics) *listener {
	return &listener{dataPath: d, key: key, policy: policy, metrics: metrics}
}

// update makes the listener serve port from now on; connections already
// accepted are not touched. The sockets follow: they serve while there is a
// usable endpoint, and refuse while there is none.
func (l *listener) update(port *Port, sockets []*socket) error {
	next := &state{port: port}
	old := l.current.Load()
	if old != nil && slices.Equal(old.port.Endpoints, port.Endpoints) {
		next.picker = old.picker
	} else {
		next.picker = l.policy.Picker(port.Endpoints)
	}
	if old == nil || len(old.port.Endpoints) != len(port.Endpoints) || len(old.port.Excluded) != len(port.Excluded) {
		l.metrics.Endpoints(port.Family.String(), len(port.Endpoints), len(port.Excluded))
	}
	if old != nil {
		next.former = withoutAll(append(slices.Clone(old.former), old.port.Frontends...), port.Frontends)
	}
	l.current.Store(next)
	l.sockets = sockets
	var errs []error
	for _, s := range l.sockets {
		errs = append(errs, l.setServing(s, len(port.Endpoints) > 0))
	}
	return errors.Join(errs...)
}

// applied tells that the kernel leads here what it should, and nothing else.
func (l *listener) applied() {
	if now := l.current.Load(); len(now.former) > 0 {
		l.current.Store(&state{port: now.port, picker: now.picker})
	}
}

func withoutAll(list, gone []Frontend) []Frontend {
	list = slices.DeleteFunc(list, func(f Frontend) bool { return slices.Contains(gone, f) })
	return slices.Compact(list)
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
