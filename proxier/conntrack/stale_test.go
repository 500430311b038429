package conntrack

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
)

// given a client that sent to a Service before there was a rule for it, when the
// rule comes, then the client goes on into nothing until Sync; after it, the same
// client is served.
func TestClientFromBeforeTheRule(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		l.ServeUDPEcho(netip.AddrPortFrom(l.pick(netip.IPv4Unspecified(), netip.IPv6Unspecified()), 11000))
		c := l.outside(l.dns(10))
		l.rule(l.dns(10), redirectTo(11000)...)
		c.send()
		c.expect(l.dns(10))

		l.sync(1, captured(l.dns(10), 11000))
		c.expect(forgotten)
		c.send()
		c.expect(l.listener(11000))
		c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 100)
		if n, from, err := c.conn.ReadFromUDPAddrPort(buf); err != nil || string(buf[:n]) != "hello" || from != l.dns(10) {
			t.Errorf("answer %q of %v, %v; want that of the Service", buf[:n], from, err)
		}
	})
}

// given clients that kube-proxy has sent to a pod, one of them to a pod whose port
// has the listener's number, another to one on the node's network, when usher takes
// over, then none of them bypasses it.
func TestClientOfFormerProxy(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		_, podAddr := l.pod("dns")
		pod, hostPod := netip.AddrPortFrom(podAddr, 11000), l.listener(5353)
		l.rule(l.dns(10), dnatTo(pod)...)
		toPod := l.outside(l.dns(10))
		l.rule(l.dns(10), dnatTo(hostPod)...)
		toHostPod := l.outside(l.dns(10))
		l.rule(l.dns(10), redirectTo(11000)...)
		toPod.send()
		toPod.expect(pod)
		toHostPod.expect(hostPod)

		l.sync(2, captured(l.dns(10), 11000))
		for _, c := range []*client{toPod, toHostPod} {
			c.expect(forgotten)
			c.send()
			c.expect(l.listener(11000))
		}
	})
}

// given a client that is served, when the listener moves to another port, then the
// client follows; when nothing moves, its entry stays.
func TestListenerPortChanges(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		l.rule(l.dns(10), redirectTo(11000)...)
		c := l.outside(l.dns(10))
		l.sync(0, captured(l.dns(10), 11000))
		c.expect(l.listener(11000))

		l.rule(l.dns(10), redirectTo(11001)...)
		l.sync(1, captured(l.dns(10), 11001))
		c.send()
		c.expect(l.listener(11001))
	})
}

// given two Services, when one is removed, then its clients no longer arrive at its
// former port, and nobody else is touched: not clients of the other Service, not
// those that another proxy serves now, not those that nobody serves.
func TestServiceRemoved(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		l.rule(l.dns(10), redirectTo(11000)...)
		l.addRule(l.dns(20), redirectTo(11001)...)
		removed, kept := l.outside(l.dns(10)), l.outside(l.dns(20))
		both := captured(l.dns(10), 11000)
		maps.Copy(both, captured(l.dns(20), 11001))
		l.sync(0, both)

		l.rule(l.dns(20), redirectTo(11001)...)
		unserved := l.outside(l.dns(10))
		_, podAddr := l.pod("dns")
		pod := netip.AddrPortFrom(podAddr, 5353)
		l.addRule(l.dns(10), dnatTo(pod)...)
		ofOtherProxy := l.outside(l.dns(10))

		l.sync(1, captured(l.dns(20), 11001))
		removed.expect(forgotten)
		kept.expect(l.listener(11001))
		unserved.expect(l.dns(10))
		ofOtherProxy.expect(pod)

		l.sync(1, nil)
		kept.expect(forgotten)
	})
}

// given a client of a Service that was removed while no usher ran, when the next
// one gives the Service's former port to another one, then the client does not
// arrive there.
func TestPortOfFormerProcessReused(t *testing.T) {
	l := newLab(t, iptables.IPv4)
	l.rule(l.dns(10), redirectTo(11000)...)
	stray := l.outside(l.dns(10))
	l.rule(l.dns(20), redirectTo(11000)...)
	c := l.outside(l.dns(20))

	l.sync(1, captured(l.dns(20), 11000))
	stray.expect(forgotten)
	c.expect(l.listener(11000))
}

// given clients of a port number on every address of the node and on an address
// behind it, when that number becomes a NodePort, then only the entry of the
// forwarded client stays.
func TestNodePort(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		const nodePort = 30053
		at := func(addr netip.Addr) netip.AddrPort { return netip.AddrPortFrom(addr, nodePort) }
		otherPort := l.outside(netip.AddrPortFrom(l.node(), nodePort+1))
		forwarded := l.outside(at(l.vip(99)))
		clients := []*client{
			l.outside(at(l.node())),
			l.outside(at(l.bridge())),
			l.client(l.NS, l.loopback(), at(l.loopback())),
		}
		l.sync(3, map[Destination][]uint16{{Port: nodePort}: {11000}})
		for _, c := range clients {
			c.expect(forgotten)
		}
		forwarded.expect(forwarded.dst)
		otherPort.expect(otherPort.dst)
	})
}

// given clients of a NodePort that are served, when the node gets another address,
// then they stay, and clients that were forwarded to that address come to the
// NodePort.
func TestNodeGetsAddress(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		const nodePort = 30053
		served, moved := netip.AddrPortFrom(l.node(), nodePort), netip.AddrPortFrom(l.vip(99), nodePort)
		l.rule(served, redirectTo(11000)...)
		c, late := l.outside(served), l.outside(moved)
		to := map[Destination][]uint16{{Port: nodePort}: {11000}}
		l.sync(0, to)
		c.expect(l.listener(11000))

		addresses := l.addresses()
		addresses[moved.Addr()] = true
		if deleted, err := l.Sync(to, addresses); deleted != 1 || err != nil {
			t.Errorf("deleted %d, %v; want 1", deleted, err)
		}
		late.expect(forgotten)
		c.expect(l.listener(11000))
	})
}

// given a NodePort whose rule also catches an address that only a route makes
// local, when Sync does not know of that address, then clients that are served
// there stay, and those that go to a former port do not.
func TestNodePortOnRoutedAddress(t *testing.T) {
	l := newLab(t, iptables.IPv4)
	dst := netip.AddrPortFrom(l.vip(99), 30053)
	l.rule(dst, redirectTo(10999)...)
	old := l.outside(dst)
	l.sync(0, map[Destination][]uint16{{Port: 30053}: {10999}})
	l.rule(dst, redirectTo(11000)...)
	c := l.outside(dst)
	l.sync(1, map[Destination][]uint16{{Port: 30053}: {11000}})
	old.expect(forgotten)
	c.expect(l.listener(11000))
}

// given a load balancer address that is the node's own, at a port that is another
// Service's NodePort, when clients use it, then they belong to the load balancer.
func TestAddressComesBeforeNodePort(t *testing.T) {
	l := newLab(t, iptables.IPv4)
	dst := netip.AddrPortFrom(l.node(), 30053)
	l.rule(dst, redirectTo(11001)...)
	wrong := l.outside(dst)
	l.rule(dst, redirectTo(11000)...)
	right := l.outside(dst)
	to := captured(dst, 11000)
	to[Destination{Port: 30053}] = []uint16{11001}
	l.sync(1, to)
	wrong.expect(forgotten)
	right.expect(l.listener(11000))
}

// given externalTrafficPolicy Local, by which clients of this node and those from
// elsewhere go to different ports, then both are right, and a former third is not.
func TestTwoPortsOfOneDestination(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		pod, podAddr := l.pod("client")
		l.rule(l.dns(10), redirectTo(10999)...)
		stale := l.outside(l.dns(10))
		l.rule(l.dns(10), append([]string{"-s", podAddr.String()}, redirectTo(11000)...)...)
		l.addRule(l.dns(10), redirectTo(11001)...)
		here, elsewhere := l.client(pod.NS, podAddr, l.dns(10)), l.outside(l.dns(10))

		l.sync(1, captured(l.dns(10), 11000, 11001))
		stale.expect(forgotten)
		here.expect(netip.AddrPortFrom(l.bridge(), 11000))
		elsewhere.expect(l.listener(11001))
	})
}

// given a socket that is bound to the Service's address, then datagrams that arrive
// unchanged are right, and those that an old entry sends elsewhere, or gives
// another source, are not.
func TestBoundDestination(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		_, podAddr := l.pod("dns")
		l.rule(l.dns(10), dnatTo(netip.AddrPortFrom(podAddr, 5353))...)
		toPod := l.outside(l.dns(10))
		l.rule(l.dns(10), redirectTo(11000)...)
		redirected := l.outside(l.dns(10))
		l.iptables("nat", "-F", "PREROUTING")
		l.iptables("nat", "-A", "POSTROUTING", "-p", "udp", "-j", "MASQUERADE")
		masqueraded := l.outside(l.dns(10))
		l.iptables("nat", "-F", "POSTROUTING")
		unchanged := l.outside(l.dns(10))

		l.sync(3, captured(l.dns(10)))
		for _, c := range []*client{toPod, redirected, masqueraded} {
			c.expect(forgotten)
		}
		unchanged.expect(l.dns(10))

		l.sync(0, nil)
		unchanged.expect(l.dns(10))
	})
}

// given a TCP connection with the same addresses and port as a captured UDP
// destination, and clients of other things, when Sync cleans up, then all of them
// stay.
func TestEverythingElseStays(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		pod, podAddr := l.pod("dns")
		echo := pod.ServeTCPEcho(netip.AddrPortFrom(podAddr, 5353))
		l.iptables("nat", "-A", "PREROUTING", "-p", "tcp", "-d", l.vip(10).String(), "--dport", "53", "-j", "DNAT", "--to-destination", echo.Addr.String())
		conn, err := l.Client.Dial("tcp", l.dns(10).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		src := netip.MustParseAddrPort(conn.LocalAddr().String())
		otherPort := l.outside(netip.AddrPortFrom(l.vip(10), 54))
		direct := l.outside(l.listener(11000))
		l.addRule(l.dns(30), redirectTo(12000)...)
		redirectedByOthers := l.outside(l.dns(30))
		pod11000 := netip.AddrPortFrom(podAddr, 11000)
		l.addRule(l.dns(31), dnatTo(pod11000)...)
		toPodOfOthers := l.outside(l.dns(31))

		l.sync(0, captured(l.dns(10), 11000))
		otherPort.expect(otherPort.dst)
		direct.expect(direct.dst)
		redirectedByOthers.expect(l.listener(12000))
		toPodOfOthers.expect(pod11000)
		tcp := func(e entry) bool { return e.src == src && e.dst == l.dns(10) && e.replySrc == echo.Addr }
		if !slices.ContainsFunc(l.entries(unix.IPPROTO_TCP), tcp) {
			t.Errorf("the entry of a TCP connection is gone: %v", l.entries(unix.IPPROTO_TCP))
		}
	})
}

// given that the other family's entries have the same ports, then a Reconciler
// leaves them alone.
func TestOtherFamilyStays(t *testing.T) {
	l := newLab(t, iptables.IPv4)
	six := &lab{Node: l.Node, netlink: l.netlink, family: iptables.IPv6, t: t}
	six.iptables("filter", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
	c := six.outside(netip.AddrPortFrom(l.IPv6, 30053))
	l.sync(0, map[Destination][]uint16{{Port: 30053}: {11000}})
	c.expect(c.dst)
}
