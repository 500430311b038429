package proxier

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/policyroute"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// bind is the capture without netfilter: a socket is bound to each address of the
// frontends. Those that this node does not have are led here by policy routes.
type bind struct {
	log      logrus.FieldLogger
	router   *policyroute.Router
	announce bool
	// connections are how many of a Port's last.
	connections func(Key) int64
	wake        func()
	again       *time.Timer // wakes the loop while connections hold routes, nil before
	// routed are the addresses of other nodes, or nobody's, that are led here.
	routed map[routedSocket]Key
	said   map[string]bool
	// local are the addresses of node, the one of this pass.
	node  *nodeState
	local map[netip.Addr]bool
}

// routedSocket is a socket whose address this node does not have.
type routedSocket struct {
	addr     netip.AddrPort
	protocol string
}

func newBind(cfg *Config, connections func(Key) int64, wake func()) (*bind, error) {
	router, err := policyroute.New(policyroute.Options{AnyIP: cfg.AnyIP})
	return &bind{
		log: cfg.Log, router: router, announce: cfg.AnnounceVIPs, connections: connections, wake: wake,
		routed: map[routedSocket]Key{}, said: map[string]bool{},
	}, err
}

func (*bind) String() string { return "bind" }

func (*bind) families() []Family { return []Family{IPv4, IPv6} }

func (*bind) sockets(port *Port, have []*socket, open opener, node *nodeState) (want []*socket, problems []error) {
	for _, addr := range addressesOf(port, node) {
		i := slices.IndexFunc(have, func(s *socket) bool { return s.addr == addr })
		if i >= 0 {
			want = append(want, have[i])
			continue
		}
		s, err := open(addr)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		want = append(want, s)
	}
	return want, problems
}

// addressesOf are what clients of port dial. A NodePort is bound once for each
// address of the node: a wildcard socket would also answer on Service addresses.
func addressesOf(port *Port, node *nodeState) []netip.AddrPort {
	var list []netip.AddrPort
	for _, f := range port.Frontends {
		if f.Kind != NodePort {
			list = append(list, netip.AddrPortFrom(f.Addr, f.Port))
			continue
		}
		for _, addr := range node.serving(port.Family) {
			list = append(list, netip.AddrPortFrom(addr, f.Port))
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	return slices.Compact(list) // a load balancer's address may be the node's
}

// answer is what clients get of the socket itself. Where it is reached by routes, these
// refuse, and the socket keeps silent: the kernel would send no reset from an address
// that is not the node's, and a socket that does not listen would leave the connection
// to one on the wildcard address.
func (b *bind) answer(port *Port, s *socket, node *nodeState) answer {
	a := b.promised(port, s, node)
	if !a.listen && b.isRouted(s.addr.Addr(), node) && !b.router.AnyIP(policyroute.Family(port.Family)) {
		return silent
	}
	return a
}

// promised is what clients get in all: one socket serves clients of both Sets, so it
// tells them apart by their addresses.
func (*bind) promised(port *Port, s *socket, node *nodeState) answer {
	f, ok := find(port.Frontends, s.addr)
	if !ok {
		return refusing
	}
	here, outside := port.eligible(f.Policy.set(true)).answer(), port.eligible(f.Policy.set(false)).answer()
	a := here
	if !here.equal(outside) { // outside is silent: there are endpoints, only not on this node
		a = here.limitTo(node.clients.prefixes(port.Family))
	}
	if f.Kind == LoadBalancer {
		a = a.limitTo(port.SourceRanges)
	}
	return a
}

// isRouted says whether packets to an address arrive only by routes of ours.
func (b *bind) isRouted(a netip.Addr, node *nodeState) bool {
	if b.node != node {
		b.node, b.local = node, node.addresses.all()
	}
	return !a.IsLoopback() && !b.local[a]
}

func (b *bind) apply(_ context.Context, served []*listener, node *nodeState, verify bool) map[Family]error {
	failed := map[Family]error{}
	destinations := b.destinations(served, node)
	b.router.Limit(refusedTo(served))
	for _, family := range b.families() {
		err := b.router.Sync(policyroute.Family(family), destinations[family], node.primary(family), verify)
		if drift := b.router.Drift(policyroute.Family(family)); len(drift) > 0 {
			b.log.WithField("family", family).WithError(err).Warnf("somebody else has changed usher's rules or routes, writing them again: %s", sumUp(drift))
		}
		switch {
		case err == nil && len(destinations[family]) > 0:
			b.warn(family)
		case mayBeDenied(err, destinations[family]):
			b.once(family.String()+": without CAP_NET_ADMIN only addresses of this node are served, and what an earlier usher may have left stays", err)
		case err != nil:
			failed[family] = err
		}
	}
	return failed
}

// refusedTo are the clients that are refused by load balancers, where not all may use them:
// the others get silence, with and without endpoints.
func refusedTo(served []*listener) map[policyroute.Destination][]netip.Prefix {
	to := map[policyroute.Destination][]netip.Prefix{}
	for _, l := range served {
		port := l.current.Load().port
		if len(port.SourceRanges) == 0 {
			continue
		}
		for _, f := range port.Frontends {
			if f.Kind == LoadBalancer {
				to[policyroute.Destination{Addr: f.Addr, Protocol: transports[l.key.Protocol], Port: f.Port}] = port.SourceRanges
			}
		}
	}
	return to
}

// mayBeDenied says whether an error only tells that an unprivileged process cannot write
// routes, and it has no socket that needs any.
func mayBeDenied(err error, list []policyroute.Destination) bool {
	return errors.Is(err, unix.EPERM) && !slices.ContainsFunc(list, func(d policyroute.Destination) bool { return !d.Refused })
}

// destinations are the frontends that routes have to lead here. Those of connections
// that last stay until these have ended, refused or not: they need the routes too.
func (b *bind) destinations(served []*listener, node *nodeState) map[Family][]policyroute.Destination {
	list, now := map[Family][]policyroute.Destination{}, map[routedSocket]Key{}
	held := &holds{bind: b, unfinished: map[Family]map[netip.AddrPort]bool{}}
	for _, l := range served {
		port := l.current.Load().port
		for _, f := range port.Frontends {
			if f.Kind == NodePort || !b.isRouted(f.Addr, node) {
				continue
			}
			at := routedSocket{netip.AddrPortFrom(f.Addr, f.Port), l.key.Protocol}
			now[at] = l.key
			list[l.key.Family] = append(list[l.key.Family], policyroute.Destination{
				Addr: f.Addr, Protocol: transports[l.key.Protocol], Port: f.Port,
				Refused:   !b.serves(l, at.addr, node) && !held.open(at, l.key),
				Announced: b.announce && (f.Kind == LoadBalancer || f.Kind == ExternalIP),
			})
		}
	}
	for at, key := range b.routed { // of no Port any more
		if _, ok := now[at]; !ok && held.open(at, key) {
			now[at] = key
			list[key.Family] = append(list[key.Family], policyroute.Destination{
				Addr: at.addr.Addr(), Protocol: transports[at.protocol], Port: at.addr.Port(),
			})
		}
	}
	b.routed = now
	if held.any {
		b.wakeSoon()
	}
	return list
}

// serves says whether there is a socket that has an answer for some clients at least.
func (b *bind) serves(l *listener, addr netip.AddrPort, node *nodeState) bool {
	i := slices.IndexFunc(l.sockets, func(s *socket) bool { return s.addr == addr })
	return i >= 0 && b.promised(l.current.Load().port, l.sockets[i], node).listen
}

var transports = map[string]policyroute.Protocol{tcpProtocol: policyroute.TCP, udpProtocol: policyroute.UDP}

// holds find out which routes connections still need.
type holds struct {
	*bind
	unfinished map[Family]map[netip.AddrPort]bool
	any        bool
}

// open says whether connections to a socket last, or are not yet acknowledged by their
// clients.
func (h *holds) open(at routedSocket, key Key) bool {
	if _, was := h.routed[at]; !was || at.protocol != tcpProtocol {
		return false
	}
	if h.unfinished[key.Family] == nil {
		h.unfinished[key.Family], _ = policyroute.Unfinished(policyroute.Family(key.Family)) // without it, a client may see a reset
	}
	open := h.connections(key) > 0 || h.unfinished[key.Family][at.addr]
	h.any = h.any || open
	return open
}

// heldFor is how long after a connection has ended its route may stay.
const heldFor = time.Second

func (b *bind) wakeSoon() {
	if b.again != nil {
		b.again.Stop()
	}
	b.again = time.AfterFunc(heldFor, b.wake)
}

// warn says what a family cannot have on this machine.
func (b *bind) warn(family Family) {
	switch f := policyroute.Family(family); {
	case b.router.AnyIP(f):
		b.once(family.String()+": no policy routing: every server on this node that listens on all addresses can be reached by Service addresses, and neighbours that ask for these get an answer", nil)
	case b.router.NoRefuser() != nil:
		b.once("clients of a Service without endpoints are told that there is no route, instead of being refused", b.router.NoRefuser())
	}
	if n := b.router.Shared(policyroute.Family(family)); n > 0 {
		b.once(family.String()+": Services have more different ports than there may be policy rules: some of their addresses lead to every server on this node", nil)
	}
}

func (b *bind) once(message string, err error) {
	if b.said[message] {
		return
	}
	b.said[message] = true
	log := b.log
	if err != nil {
		log = log.WithError(err)
	}
	log.Warn(message)
}

// The kernel delivers to the bound sockets as it is.

func (*bind) released(netip.AddrPort)                         {}
func (*bind) redirected(*listener, Frontend) ([]uint16, bool) { return nil, true }
func (*bind) rules(Family) map[string]int                     { return nil }
func (*bind) own() map[uint16]bool                            { return nil }
func (*bind) destination(_ *tcp.Conn, local netip.AddrPort) (netip.AddrPort, error) {
	return local, nil
}

// stop has new clients refused. Connections that last keep their routes.
func (b *bind) stop(context.Context) error {
	if b.again != nil {
		b.again.Stop()
	}
	list := map[Family][]policyroute.Destination{}
	held := &holds{bind: b, unfinished: map[Family]map[netip.AddrPort]bool{}}
	for at, key := range b.routed {
		list[key.Family] = append(list[key.Family], policyroute.Destination{
			Addr: at.addr.Addr(), Protocol: transports[at.protocol], Port: at.addr.Port(), Refused: !held.open(at, key),
		})
	}
	var errs []error
	for family, destinations := range list {
		if err := b.router.Sync(policyroute.Family(family), destinations, b.node.primary(family), false); !errors.Is(err, unix.EPERM) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove leaves nothing of ours in the kernel.
func (b *bind) remove(context.Context) error {
	err := b.router.Close()
	if len(b.routed) == 0 && errors.Is(err, unix.EPERM) {
		return nil // what is there is not ours
	}
	return err
}

// connectionsOf are how many connections of a Port last, also of those that had its name
// before.
func (p *Proxier) connectionsOf(key Key) (n int64) {
	if l := p.listeners[key]; l != nil {
		n = l.active.Load()
	}
	for _, l := range p.draining {
		if l.key == key {
			n += l.active.Load()
		}
	}
	return n
}
