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
	"github.com/usher-proxy/usher/proxier/udp"
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
	clients      atomic.Pointer[clients]
	source       *clientSource
	packets      *udp.Relay
	served       atomic.Pointer[served]
	acceptErrors *occasionally
}

// listener serves one Port on one or more sockets. The reconcile loop owns it
// and everything in it; connections only read what is current.
type listener struct {
	*dataPath
	key      Key
	policies map[Set]balancer.Policy
	shared   *sharedPort
	sockets  []*socket
	current  atomic.Pointer[state]
	active   atomic.Int64 // connections being served
}

// state is what a connection needs to know of its Port, swapped as one.
type state struct {
	port    *Port
	pickers map[Set]balancer.Picker
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

func newListener(d *dataPath, key Key, newPolicy func() balancer.Policy, shared *sharedPort) *listener {
	return &listener{dataPath: d, key: key, shared: shared,
		policies: map[Set]balancer.Policy{ClusterSet: newPolicy(), LocalSet: newPolicy()}}
}

// update makes the listener serve port from now on; connections already
// accepted are not touched. The sockets follow: they serve while there is a
// usable endpoint, and refuse or keep silent while there is none.
func (l *listener) update(port *Port, sockets []*socket, node *nodeState) error {
	old := l.current.Load()
	next := &state{port: port, pickers: map[Set]balancer.Picker{}}
	for _, set := range []Set{ClusterSet, LocalSet} {
		next.pickers[set] = l.picker(port, set, old)
	}
	if old != nil && (len(old.former) > 0 || !slices.Equal(old.port.Frontends, port.Frontends)) {
		next.former = withoutAll(append(slices.Clone(old.former), old.port.Frontends...), port.Frontends)
	}
	if old == nil || counts(old.port) != counts(port) {
		n := counts(port)
		l.shared.metrics.Endpoints(port.Family.String(), n[0], n[1], n[2])
	}
	l.current.Store(next)
	l.sockets = sockets
	var errs []error
	for _, s := range l.sockets {
		errs = append(errs, s.give(l.capture.answer(port, s, node), l))
	}
	return errors.Join(errs...)
}

// counts are how many endpoints are usable, local and excluded.
func counts(p *Port) [3]int {
	return [3]int{len(p.Cluster.Endpoints), len(p.Local.Endpoints), len(p.Excluded)}
}

// picker is the old one if nothing has changed for it.
func (l *listener) picker(port *Port, set Set, old *state) balancer.Picker {
	endpoints := port.eligible(set).Endpoints
	if old != nil && old.port.Affinity == port.Affinity && slices.Equal(old.port.eligible(set).Endpoints, endpoints) {
		return old.pickers[set]
	}
	picker := l.policies[set].Picker(endpoints)
	if port.Affinity > 0 {
		picker = l.shared.affinity.Picker(picker, endpoints, port.Affinity)
	}
	return picker
}

// applied tells that the kernel leads here what it should, and nothing else.
func (l *listener) applied() {
	if now := l.current.Load(); len(now.former) > 0 {
		l.current.Store(&state{port: now.port, pickers: now.pickers})
	}
}

func withoutAll(list, gone []Frontend) []Frontend {
	list = slices.DeleteFunc(list, func(f Frontend) bool { return slices.Contains(gone, f) })
	return slices.Compact(list)
}

// accept gives a new connection its own goroutine. It never blocks.
func (l *listener) accept(client *net.TCPConn, set Set) {
	c := &connection{listener: l, client: client, set: set, record: l.observer.Open(l.shared.metrics)}
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
		s.close(observe.Shutdown)
	}
	l.sockets = nil
}
