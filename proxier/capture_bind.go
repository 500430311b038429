package proxier

import (
	"context"
	"net"
	"net/netip"
	"slices"
)

// bind is the capture without netfilter: the frontends' addresses belong to
// this node, and a socket is bound to each of them.
type bind struct {
	node func() nodeAddresses
}

func (b *bind) String() string { return "bind" }

func (b *bind) sockets(port *Port, have []*socket) (want []*socket, problems []error) {
	for _, addr := range b.addresses(port) {
		i := slices.IndexFunc(have, func(s *socket) bool { return s.addr == addr })
		if i >= 0 {
			want = append(want, have[i])
			continue
		}
		s, err := openSocket(addr)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		want = append(want, s)
	}
	return want, problems
}

// addresses are what clients of port dial. A NodePort is bound once for each
// address of the node: a wildcard socket would also answer on Service addresses.
func (b *bind) addresses(port *Port) []netip.AddrPort {
	var list []netip.AddrPort
	for _, f := range port.Frontends {
		if f.Kind == ClusterIP {
			list = append(list, netip.AddrPortFrom(f.Addr, f.Port))
			continue
		}
		for _, addr := range b.node().bindable(port.Family) {
			list = append(list, netip.AddrPortFrom(addr, f.Port))
		}
	}
	return list
}

// The kernel delivers to the bound sockets as it is.

func (b *bind) apply(context.Context, []*listener, nodeAddresses, bool) map[Family]error { return nil }
func (b *bind) released(*socket)                                                         {}
func (b *bind) own() map[uint16]bool                                                     { return nil }
func (b *bind) remove(context.Context) error                                             { return nil }

func (b *bind) destination(conn *net.TCPConn) (netip.AddrPort, error) {
	return addrPort(conn.LocalAddr()), nil
}
