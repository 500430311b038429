package proxier

import (
	"context"
	"net"
	"net/netip"
	"slices"
)

// bind is the capture without netfilter: the frontends' addresses belong to
// this node, and a socket is bound to each of them.
type bind struct{}

func (bind) String() string { return "bind" }

func (bind) families() []Family { return []Family{IPv4, IPv6} }

func (b bind) sockets(port *Port, have []*socket, open opener, node *nodeState) (want []*socket, problems []error) {
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

// answer: one socket serves clients of both Sets, so it tells them apart by their
// addresses.
func (bind) answer(port *Port, s *socket, node *nodeState) answer {
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

// The kernel delivers to the bound sockets as it is.

func (bind) apply(context.Context, []*listener, *nodeState, bool) map[Family]error { return nil }
func (bind) released(netip.AddrPort)                                               {}
func (bind) redirected(*listener, Frontend) ([]uint16, bool)                       { return nil, true }
func (bind) rules(Family) map[string]int                                           { return nil }
func (bind) own() map[uint16]bool                                                  { return nil }
func (bind) stop(context.Context) error                                            { return nil }
func (bind) remove(context.Context) error                                          { return nil }

func (bind) destination(conn *net.TCPConn) (netip.AddrPort, error) {
	return addrPort(conn.LocalAddr()), nil
}
