package udp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// choice leads each client to an endpoint of its own.
type choice struct {
	*account
	of    map[netip.AddrPort]netip.AddrPort // by client
	other netip.AddrPort                    // of all others
}

func (c *choice) Route(client, _ netip.AddrPort, tried []netip.AddrPort) (Route, error) {
	to, ok := c.of[client]
	if !ok {
		to = c.other
	}
	if slices.Contains(tried, to) {
		return Route{}, &Refusal{}
	}
	return Route{To: to}, nil
}

func (c *choice) Keeps(Route) bool { return true }

// TestOthersGoOn has one session that something is wrong with, and other clients
// of the same loop: all of their round trips succeed meanwhile.
func TestOthersGoOn(t *testing.T) {
	for _, c := range []struct {
		name    string
		disturb func(t *testing.T, l *lab, bad *client, badEndpoint *net.UDPConn) (stop func())
	}{
		{"while an endpoint does not read", func(t *testing.T, l *lab, bad *client, _ *net.UDPConn) func() {
			for range 500 { // more than there is room for; one after the other, for the Socket's queue has its limit, too
				before, _ := l.passed()
				bad.send(string(make([]byte, 1000)))
				eventually(t, "a datagram passed on", func() bool { now, _ := l.passed(); return now > before })
			}
			return func() {}
		}},
		{"while an endpoint floods", func(t *testing.T, l *lab, bad *client, endpoint *net.UDPConn) func() {
			session := firstSender(t, bad, endpoint)
			stopReading := loopOf(func() { bad.hearOr(patience) })
			stopFlood := loopOf(func() { endpoint.WriteToUDPAddrPort(make([]byte, 1000), session) })
			return func() { stopFlood(); bad.Close(); stopReading() }
		}},
		{"while a client does not read", func(t *testing.T, l *lab, bad *client, endpoint *net.UDPConn) func() {
			session := firstSender(t, bad, endpoint)
			return loopOf(func() { endpoint.WriteToUDPAddrPort(make([]byte, 60000), session) })
		}},
		{"while a client has gone", func(t *testing.T, l *lab, bad *client, endpoint *net.UDPConn) func() {
			session := firstSender(t, bad, endpoint)
			bad.Close()
			return loopOf(func() { endpoint.WriteToUDPAddrPort(make([]byte, 1000), session) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, setup{})
			bad, badEndpoint := l.client(), listenAt(t, netip.MustParseAddrPort("127.0.0.1:0"))
			good := echo(t, "127.0.0.1")
			must(t, l.socket.Serve(&choice{l.account, map[netip.AddrPort]netip.AddrPort{bad.addr(): badEndpoint.LocalAddr().(*net.UDPAddr).AddrPort()}, good.addr}))
			var others []*client
			for i := range 5 {
				others = append(others, l.client())
				others[i].ask("hello")
			}
			stop := c.disturb(t, l, bad, badEndpoint)
			var wg sync.WaitGroup
			for i, other := range others {
				wg.Go(func() {
					for n := range 200 {
						question := fmt.Sprint(i, n)
						other.Write([]byte(question))
						if got, err := other.hearOr(patience); got != question {
							t.Errorf("client %d hears %q, %v instead of %q", i, got, err, question)
							return
						}
					}
				})
			}
			wg.Wait()
			stop()
			if n := l.sessions(); n != 1+len(others) {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

// firstSender is the address of a client's session towards its endpoint.
func firstSender(t *testing.T, c *client, endpoint *net.UDPConn) netip.AddrPort {
	t.Helper()
	c.send("hello")
	_, session, err := endpoint.ReadFromUDPAddrPort(make([]byte, 100))
	must(t, err)
	return session
}

// loopOf does something again and again until stop is called.
func loopOf(do func()) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				do()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// A flood of replies waits in the session's queue; the client gets what has room,
// in order.
func TestAFloodOfReplies(t *testing.T) {
	l := newLab(t, setup{})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	c := l.client()
	c.send("send me a lot")
	session := b.sender(t)
	release := l.hold()
	const replies = 100
	for i := range replies {
		b.conn.WriteToUDPAddrPort(fmt.Appendf(nil, "%d", i), session)
	}
	release()
	for i := range replies {
		if got := c.hear(); got != fmt.Sprint(i) {
			t.Fatalf("reply %d is %q", i, got)
		}
	}
	_, out := l.passed()
	if out != replies || l.dropped() != "" {
		t.Errorf("%d replies, drops %q", out, l.dropped())
	}
}

// Of a session that has many replies only a few are taken before it is another
// one's turn. A client has two sessions here, so that it sees the order.
func TestSessionsTakeTurns(t *testing.T) {
	l := newLab(t, setup{addr: "0.0.0.0"})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	c := listenAt(t, netip.MustParseAddrPort("127.0.0.1:0"))
	port := l.socket.Addr().Port()
	var sessions []netip.AddrPort
	for _, addr := range []string{"127.0.0.1", "127.0.0.2"} {
		c.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(netip.MustParseAddr(addr), port))
		sessions = append(sessions, b.sender(t))
	}
	const many = 50
	release := l.hold()
	for range many {
		b.conn.WriteToUDPAddrPort([]byte("many"), sessions[0])
	}
	b.conn.WriteToUDPAddrPort([]byte("one"), sessions[1])
	release()
	c.SetReadDeadline(time.Now().Add(patience))
	room := make([]byte, 100)
	for i := range many + 1 {
		n, err := c.Read(room)
		must(t, err)
		if string(room[:n]) == "one" && i > 2*maxReplies {
			t.Errorf("it had to wait for %d others", i)
		}
	}
}

// TestNothingIsAllocatedForADatagram counts everything that the process allocates
// while datagrams go to and fro.
func TestNothingIsAllocatedForADatagram(t *testing.T) {
	for name, batch := range map[string]int{"one by one": 1, "many at once": 20} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, setup{})
			endpoint := listenAt(t, netip.MustParseAddrPort("127.0.0.1:0"))
			l.serve(endpoint.LocalAddr().(*net.UDPAddr).AddrPort())
			c := l.client()
			session := firstSender(t, c, endpoint)
			datagram, room := make([]byte, 100), make([]byte, 100)
			roundTrips := func() {
				for range batch {
					c.Write(datagram)
				}
				for range batch {
					endpoint.ReadFromUDPAddrPort(room)
				}
				for range batch {
					endpoint.WriteToUDPAddrPort(datagram, session)
				}
				for range batch {
					c.Read(room)
				}
			}
			if n := testing.AllocsPerRun(500, roundTrips); n > 0 {
				t.Errorf("%v allocations for %d datagrams each way", n, batch)
			}
		})
	}
}
