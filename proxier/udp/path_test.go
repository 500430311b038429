package udp

import (
	"net/netip"
	"testing"
)

// TestDatagramsLargerThanThePath has datagrams that a router on the way to the
// endpoint cannot carry whole. That router fragments those of IPv4. In IPv6 it
// tells the sender: the first one is lost, and the kernel fragments what follows.
// Neither says anything about the endpoint.
func TestDatagramsLargerThanThePath(t *testing.T) {
	for _, c := range []struct {
		family, loopback, endpoint, lost string
	}{
		{"IPv4", "127.0.0.1", "198.51.100.2", ""},
		{"IPv6", "::1", "2001:db8:3::2", "too_big=1"},
	} {
		t.Run(c.family, func(t *testing.T) {
			far := newFar(t)
			conn := far.ListenUDP(netip.AddrPortFrom(netip.MustParseAddr(c.endpoint), 0))
			b := newBackend(t, conn, func(b []byte) []byte { return b[:1] })
			l := newLab(t, setup{addr: c.loopback})
			l.serve(b.addr, echo(t, c.loopback).addr)
			client := l.client()
			if got := client.ask("s"); got != "s" {
				t.Errorf("the client hears %q", got)
			}
			client.send("l" + noise(1400))
			if c.lost != "" {
				l.wantDrops(c.lost)
				client.send("l" + noise(1400))
			}
			if got := client.hear(); got != "l" {
				t.Errorf("the client hears %q", got)
			}
			if got := client.ask("z"); got != "z" || l.sessions() != 1 || l.dropped() != c.lost {
				t.Errorf("the client hears %q, by session %d, drops %q", got, l.sessions(), l.dropped())
			}
			if got := len(b.received()); got != 3 {
				t.Errorf("the endpoint got %d datagrams", got)
			}
		})
	}
}

// newFar is a machine behind a router. The link between these two carries packets
// of up to 1,280 bytes.
func newFar(t *testing.T) *neighbour {
	t.Helper()
	router := newNeighbour(t, "router", [2]string{"192.0.2.1/24", "192.0.2.2/24"}, [2]string{"2001:db8:2::1/64", "2001:db8:2::2/64"})
	router.Sysctl("net/ipv4/ip_forward", "1")
	router.Sysctl("net/ipv6/conf/all/forwarding", "1")
	far := router.newNeighbour(t, "far", [2]string{"198.51.100.1/24", "198.51.100.2/24"}, [2]string{"2001:db8:3::1/64", "2001:db8:3::2/64"},
		[2]string{"fe80::1/64", "fe80::2/64"}) // the router asks by its link-local address who is there
	router.Run("ip", "link", "set", far.device, "mtu", "1280")
	router.route(t, "198.51.100.0/24", "192.0.2.2")
	router.route(t, "2001:db8:3::/64", "2001:db8:2::2")
	far.Run("ip", "route", "add", "default", "via", "198.51.100.1")
	far.Run("ip", "-6", "route", "add", "default", "via", "2001:db8:3::1")
	return far
}
