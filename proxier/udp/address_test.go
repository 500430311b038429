package udp

import (
	"net/netip"
	"testing"
)

// A client may ask several addresses with one socket: each of them answers for
// itself, and has a session of its own.
func TestTheAddressThatWasAskedReplies(t *testing.T) {
	ownAddress(t, "2001:db8:1::1/128")
	ownAddress(t, "2001:db8:1::2/128")
	for _, c := range []struct {
		name, listen, client string
		ask                  []string
	}{
		{"IPv4", "0.0.0.0", "127.0.0.1", []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"}},
		{"IPv6", "::", "::1", []string{"::1", "2001:db8:1::1", "2001:db8:1::2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, setup{addr: c.listen})
			l.serve(echo(t, c.client).addr)
			conn := listenAt(t, netip.AddrPortFrom(netip.MustParseAddr(c.client), 0))
			buf := make([]byte, 100)
			for range 2 {
				for _, addr := range c.ask {
					asked := netip.AddrPortFrom(netip.MustParseAddr(addr), l.socket.Addr().Port())
					if _, err := conn.WriteToUDPAddrPort([]byte(addr), asked); err != nil {
						t.Fatal(err)
					}
					n, from, err := conn.ReadFromUDPAddrPort(buf)
					if err != nil || from != asked || string(buf[:n]) != addr {
						t.Errorf("asked %s: %q comes from %s, %v", asked, buf[:n], from, err)
					}
				}
			}
			l.close("")
			var locals []string
			for _, s := range l.ended() {
				locals = append(locals, s.Local.Addr().String())
				if s.Local.Port() != l.socket.Addr().Port() || s.In != 2 || s.Out != 2 || s.Client != conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort() {
					t.Errorf("a session tells %+v", s)
				}
			}
			if !sameSet(locals, c.ask) {
				t.Errorf("sessions for %v, asked %v", locals, c.ask)
			}
		})
	}
}

// Two links may have the same link-local addresses on both of their ends. Only
// the interface tells them apart.
func TestLinkLocalNeighboursWithTheSameAddress(t *testing.T) {
	same := [2]string{"fe80::1/64", "fe80::2/64"}
	left, right := newNeighbour(t, "left", same), newNeighbour(t, "right", same)
	l := newLab(t, setup{addr: "::"})
	l.serve(echo(t, "::1").addr)
	us := netip.AddrPortFrom(netip.MustParseAddr("fe80::1%eth0"), l.socket.Addr().Port())

	a := left.dialFrom(t, "fe80::2%eth0", 4000, us)
	b := right.dialFrom(t, "fe80::2%eth0", 4000, us)
	a.send("from the left")
	b.send("from the right")
	if got := a.hear(); got != "from the left" {
		t.Errorf("left hears %q", got)
	}
	if got := b.hear(); got != "from the right" {
		t.Errorf("right hears %q", got)
	}
	if n := l.sessions(); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// A client with a global address may ask a link-local one: the reply has to leave
// by that interface.
func TestAGlobalClientOfALinkLocalAddress(t *testing.T) {
	n := newNeighbour(t, "near", [2]string{"fe80::1/64", "fe80::2/64"}, [2]string{"2001:db8:2::1/64", "2001:db8:2::2/64"})
	l := newLab(t, setup{addr: "::"})
	l.serve(echo(t, "::1").addr)
	c := n.dialFrom(t, "2001:db8:2::2", 4000, netip.AddrPortFrom(netip.MustParseAddr("fe80::1%eth0"), l.socket.Addr().Port()))
	if got := c.ask("hello"); got != "hello" {
		t.Errorf("it hears %q", got)
	}
}

// A reply from an address that routing would not choose.
func TestTheRemoteClientHearsTheAddressItAsked(t *testing.T) {
	ownAddress(t, "198.51.100.7/32")
	n := newNeighbour(t, "far", [2]string{"192.0.2.1/24", "192.0.2.2/24"})
	n.Run("ip", "route", "add", "198.51.100.7/32", "via", "192.0.2.1")
	l := newLab(t, setup{addr: "0.0.0.0"})
	l.serve(echo(t, "127.0.0.1").addr)
	c := n.dial(t, netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), l.socket.Addr().Port()))
	if got := c.ask("who is there"); got != "who is there" {
		t.Errorf("it hears %q", got)
	}
	l.close("")
	if s := l.ended()[0]; s.Client != c.addr() || s.Local.Addr().String() != "198.51.100.7" {
		t.Errorf("the session tells %+v", s)
	}
}

// What comes from somebody who is not the session's endpoint is not the client's.
func TestStrangersAreNotHeard(t *testing.T) {
	l := newLab(t, setup{})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	c := l.client()
	c.send("hello")
	session := b.sender(t)
	stranger := listenAt(t, netip.MustParseAddrPort("127.0.0.1:0"))
	stranger.WriteToUDPAddrPort([]byte("not for you"), session)
	b.conn.WriteToUDPAddrPort([]byte("for you"), session)
	if got := c.hear(); got != "for you" {
		t.Errorf("the client hears %q", got)
	}
}
