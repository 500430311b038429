package udp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// soon are limits by which sessions end while a test can wait for it.
var soon = Limits{Sessions: 100, Idle: time.Second, Stream: time.Second}

func TestASessionEndsWhenNothingPassesAnyMore(t *testing.T) {
	l := newLab(t, setup{limits: soon})
	b := echo(t, "127.0.0.1")
	l.serve(b.addr)
	c := l.client()
	begun := time.Now()
	c.ask("hello")
	first := b.sender(t)
	l.wantReasons(observe.Idle)
	lived := time.Since(begun)
	s := l.ended()[0]
	if s.Client != c.addr() || s.Local != l.socket.Addr() || s.Route.To != b.addr || s.LocalPort != first.Port() || s.FirstReply < 0 || s.FirstReply > lived || s.Err != nil || s.Tried != nil {
		t.Errorf("the session tells %+v", s)
	}
	if lived < soon.Stream {
		t.Errorf("it ended after %v", lived)
	}
	if l.relay.Len() != 0 || l.group.Len() != 0 {
		t.Errorf("%d and %d sessions are left", l.relay.Len(), l.group.Len())
	}
	if got := c.ask("once more"); got != "once more" || l.sessions() != 2 {
		t.Errorf("later the client hears %q, by session %d", got, l.sessions())
	}
}

// The next datagram goes to another endpoint; late replies come all the same, from
// the address that was asked, until there are none any more.
func TestTheEndpointIsRemoved(t *testing.T) {
	l := newLab(t, setup{limits: soon})
	a, b := named(t, "a", "127.0.0.1"), named(t, "b", "127.0.0.1")
	l.serve(a.addr, b.addr)
	c := l.client()
	if got := c.ask("1"); got != "a 1" {
		t.Errorf("the client hears %q", got)
	}
	session := a.sender(t)

	l.serve(b.addr)
	late := func(reply string) {
		t.Helper()
		a.conn.WriteToUDPAddrPort([]byte(reply), session)
		if got := c.hear(); got != reply {
			t.Errorf("the client hears %q instead of %q", got, reply)
		}
	}
	late("before the next datagram")
	if got := c.ask("2"); got != "b 2" {
		t.Errorf("the client hears %q", got)
	}
	late("after it")
	if n := l.relay.Len(); n != 2 {
		t.Errorf("%d sessions", n)
	}
	eventually(t, "the end of the former session", func() bool {
		if got := c.ask("3"); got != "b 3" {
			t.Errorf("the client hears %q", got)
		}
		return len(l.ended()) > 0
	})
	if s := l.ended()[0]; s.Route.To != a.addr || s.Reason != observe.EndpointRemoved || s.In != 1 || s.Out != 3 || s.Err != nil {
		t.Errorf("the session tells %+v", s)
	}
	if n := l.sessions(); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// Sessions stay with an endpoint that is still there, whatever else changes.
func TestTheEndpointStays(t *testing.T) {
	l := newLab(t, setup{})
	a, b := named(t, "a", "127.0.0.1"), named(t, "b", "127.0.0.1")
	l.serve(a.addr)
	c := l.client()
	c.ask("1")
	l.serve(b.addr, a.addr)
	if got := c.ask("2"); got != "a 2" {
		t.Errorf("the client hears %q", got)
	}
	l.socket.Refuse()
	c.wantRefused()
	l.serve(b.addr, a.addr)
	if got := c.ask("3"); got != "a 3" || l.sessions() != 1 {
		t.Errorf("the client hears %q, by session %d", got, l.sessions())
	}
}

// Late replies also come while the Socket refuses.
func TestAReplyAfterRefuse(t *testing.T) {
	l := newLab(t, setup{})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	c := l.client()
	c.send("1")
	session := b.sender(t)
	l.socket.Refuse()
	b.conn.WriteToUDPAddrPort([]byte("late"), session)
	if got := c.hear(); got != "late" {
		t.Errorf("the client hears %q", got)
	}
}

// A client's first datagram gets to an endpoint that takes it.
func TestTheFirstDatagramIsRefused(t *testing.T) {
	eachFamily(t, func(t *testing.T, loopback string) {
		l := newLab(t, setup{addr: loopback})
		none, b := dead(t, loopback), named(t, "b", loopback)
		l.serve(none, b.addr)
		c := l.client()
		if got := c.ask("1"); got != "b 1" {
			t.Errorf("the client hears %q", got)
		}
		if got := c.ask("2"); got != "b 2" {
			t.Errorf("the client hears %q", got)
		}
		l.close("")
		refused, served := l.ended()[0], l.ended()[1]
		if refused.Route.To != none || refused.Reason != observe.BackendRefused || refused.Err != unix.ECONNREFUSED || refused.In != 1 || refused.Out != 0 || refused.FirstReply != -1 {
			t.Errorf("the first session tells %+v", refused)
		}
		if !slices.Equal(served.Tried, []netip.AddrPort{none}) || served.In != 2 || served.Out != 2 || served.BytesIn != 2 || served.BytesOut != 6 {
			t.Errorf("the second session tells %+v", served)
		}
		if l.dropped() != "" {
			t.Errorf("drops %q", l.dropped())
		}
	})
}

// A second datagram may wait when the first one is refused. Both go to another
// endpoint.
func TestTheFirstDatagramIsRefusedAndTheSecondIsThere(t *testing.T) {
	l := newLab(t, setup{})
	none, b := dead(t, "127.0.0.1"), named(t, "b", "127.0.0.1")
	l.serve(none, b.addr)
	c, other := l.client(), l.client()
	release := l.hold()
	c.send("1")
	for range batchSize - 1 { // the first batch
		other.send("x")
	}
	c.send("2") // the second
	release()
	heard := []string{c.hear(), c.hear()}
	if !sameSet(heard, []string{"b 1", "b 2"}) {
		t.Errorf("the client hears %q", heard)
	}
}

// Two endpoints refuse, the third takes it.
func TestSeveralEndpointsRefuse(t *testing.T) {
	l := newLab(t, setup{})
	c := named(t, "c", "127.0.0.1")
	l.serve(dead(t, "127.0.0.1"), dead(t, "127.0.0.1"), c.addr)
	if got := l.client().ask("1"); got != "c 1" {
		t.Errorf("the client hears %q", got)
	}
	l.wantReasons(observe.BackendRefused, observe.BackendRefused)
}

// An endpoint goes away in the middle of a conversation: at most one datagram is
// lost.
func TestAnEndpointThatHadAnsweredRefuses(t *testing.T) {
	l := newLab(t, setup{})
	a, b := named(t, "a", "127.0.0.1"), named(t, "b", "127.0.0.1")
	l.serve(a.addr, b.addr)
	c := l.client()
	c.ask("1")
	c.ask("2")
	a.close()
	if got, asked := c.insist("3"); got != "b 3" || asked > 2 {
		t.Errorf("the client hears %q after %d", got, asked)
	}
	l.wantReasons(observe.BackendRefused)
	if s := l.ended()[0]; s.In != 3 || s.Out != 2 {
		t.Errorf("the session tells %+v", s)
	}
}

// A host tells only a few of those whose datagrams it refuses (icmp_ratelimit).
// The others hear it from them.
func TestManySessionsOfOneEndpointThatRefuses(t *testing.T) {
	for _, c := range []struct{ family, ours, theirs, bits, loopback, file, counter string }{
		{"IPv4", "192.0.2.1", "192.0.2.2", "/24", "127.0.0.1", "/proc/net/snmp", `Icmp: (?:\d+ ){18}(\d+)`},
		{"IPv6", "2001:db8::1", "2001:db8::2", "/64", "::1", "/proc/net/snmp6", `Icmp6OutDestUnreachs\s+(\d+)`},
	} {
		t.Run(c.family, func(t *testing.T) {
			n := newNeighbour(t, "far", [2]string{c.ours + c.bits, c.theirs + c.bits})
			var conn = n.ListenUDP(netip.AddrPortFrom(netip.MustParseAddr(c.theirs), 0))
			a := newBackend(t, conn, func(b []byte) []byte { return append([]byte("a "), b...) })
			b := named(t, "b", c.loopback)
			l := newLab(t, setup{addr: c.loopback})
			l.serve(a.addr, b.addr)

			var clients []*client
			for range 30 {
				clients = append(clients, l.client())
				if got := clients[len(clients)-1].ask("1"); got != "a 1" {
					t.Fatalf("a client hears %q", got)
				}
			}
			a.close()
			for _, client := range clients {
				client.send("2") // lost: it had answered before
			}
			l.wantPassed(2 * len(clients)) // with a "3" in the same batch it would be offered to b
			if got, _ := clients[0].insist("3"); got != "b 3" {
				t.Errorf("the first client hears %q", got)
			}
			for _, client := range clients[1:] {
				if got := client.ask("3"); got != "b 3" {
					t.Errorf("a client hears %q", got)
				}
			}
			if told := n.count(c.file, c.counter); told == 0 || told >= len(clients) {
				t.Errorf("%d clients were told: this tests nothing", told)
			}
		})
	}
}

// As long as all refuse, datagrams are lost and counted; who comes back first is
// used at once.
func TestAllEndpointsRefuse(t *testing.T) {
	l := newLab(t, setup{})
	a, b := dead(t, "127.0.0.1"), dead(t, "127.0.0.1")
	l.serve(a, b)
	c := l.client()
	const lost = 5
	for i := range lost {
		c.send("lost")
		l.wantDrops(fmt.Sprint("refused=", i+1))
	}
	namedAt(t, "b", b)
	if got, asked := c.insist("1"); got != "b 1" || asked > 2 {
		t.Errorf("the client hears %q after %d", got, asked)
	}
	if got := c.ask("2"); got != "b 2" {
		t.Errorf("the client hears %q", got)
	}
}

// New clients go elsewhere for some seconds, and then back.
func TestAnEndpointComesBack(t *testing.T) {
	l := newLab(t, setup{})
	none, b := dead(t, "127.0.0.1"), named(t, "b", "127.0.0.1")
	l.serve(none, b.addr)
	if got := l.client().ask("1"); got != "b 1" {
		t.Errorf("the first client hears %q", got)
	}
	a := namedAt(t, "a", none)
	if got := l.client().ask("2"); got != "b 2" { // without a try
		t.Errorf("the second client hears %q", got)
	}
	eventually(t, "a client of the endpoint that came back", func() bool { return l.client().ask("3") == "a 3" })
	if len(a.received()) != 1 {
		t.Errorf("it got %q", a.received())
	}
}

// meanwhile is a server during whose Route something else happens.
type meanwhile struct {
	*server
	do func()
}

func (m *meanwhile) Route(client, local netip.AddrPort, tried []netip.AddrPort) (Route, error) {
	m.do()
	return m.server.Route(client, local, tried)
}

// A Server that has been replaced is not asked any more, also for a datagram that
// is refused after that.
func TestTheServerIsReplacedBeforeTheFirstDatagramIsRefused(t *testing.T) {
	l := newLab(t, setup{})
	none, former, b := dead(t, "127.0.0.1"), named(t, "former", "127.0.0.1"), named(t, "b", "127.0.0.1")
	must(t, l.socket.Serve(&meanwhile{&server{l.account, []netip.AddrPort{none, former.addr}}, func() {
		next := Server(&server{l.account, []netip.AddrPort{b.addr}})
		l.socket.current.Store(&next)
	}}))
	if got := l.client().ask("1"); got != "b 1" {
		t.Errorf("the client hears %q", got)
	}
}

// A Socket that refuses by now offers nothing to anybody any more.
func TestTheSocketRefusesBeforeTheFirstDatagramIsRefused(t *testing.T) {
	l := newLab(t, setup{})
	none, b := dead(t, "127.0.0.1"), named(t, "b", "127.0.0.1")
	reader := l.socket.readers[0]
	must(t, l.socket.Serve(&meanwhile{&server{l.account, []netip.AddrPort{none, b.addr}}, func() {
		if reader.fd >= 0 { // as stop does it
			reader.forget(reader.fd)
			reader.fd = -1
		}
	}}))
	l.client().send("1")
	l.wantDrops("refused=1")
	l.settle()
	if got := b.received(); got != nil {
		t.Errorf("an endpoint got %q", got)
	}
}

// What one session hears counts for all: so does it for what was offered to the
// next endpoint and not answered yet.
func TestTheSecondEndpointIsHeardToRefuse(t *testing.T) {
	l := newLab(t, setup{})
	none, silent, c := dead(t, "127.0.0.1"), mute(t, "127.0.0.1"), named(t, "c", "127.0.0.1")
	l.serve(none, silent.addr, c.addr)
	client := l.client()
	client.send("1")
	silent.sender(t)
	l.relay.loops[0].do(func() { l.relay.loops[0].refusals.add(silent.addr, l.relay.table.now()) })
	if got := client.ask("2"); got != "c 2" {
		t.Errorf("the client hears %q", got)
	}
}

// A client that begins with several datagrams at once loses none of them either.
func TestTheFirstDatagramsAreRefused(t *testing.T) {
	l := newLab(t, setup{})
	none, b := dead(t, "127.0.0.1"), mute(t, "127.0.0.1")
	l.serve(none, b.addr)
	c := l.client()
	release := l.hold()
	want := []string{"1", "2", "3", "4", "5"}
	for _, datagram := range want {
		c.send(datagram)
	}
	release()
	for range want {
		b.sender(t)
	}
	if got := b.received(); !slices.Equal(got, want) {
		t.Errorf("the endpoint got %q", got)
	}
	if l.dropped() != "" {
		t.Errorf("drops %q", l.dropped())
	}
}

// Many datagrams of a conversation are on their way at once when the endpoint goes:
// what comes after its refusal goes to another one.
func TestAnEndpointThatHadAnsweredRefusesMany(t *testing.T) {
	l := newLab(t, setup{})
	a, b := echo(t, "127.0.0.1"), mute(t, "127.0.0.1")
	l.serve(a.addr, b.addr)
	c := l.client()
	c.ask("hello")
	a.close()
	release := l.hold()
	const many = 20
	for i := range many {
		c.send(fmt.Sprint(i))
	}
	release()
	for i := 2; i < many; i++ { // one finds out, and the kernel tells it with the next one
		b.sender(t)
	}
	if got := b.received(); got[len(got)-1] != fmt.Sprint(many-1) || len(got) < many-2 {
		t.Errorf("the endpoint got %q", got)
	}
}

// The route to an endpoint goes away in the middle of a conversation: the client
// loses nothing.
func TestAnEndpointThatCannotBeReachedAnyMore(t *testing.T) {
	n := newNeighbour(t, "far", [2]string{"192.0.2.1/24", "192.0.2.2/24"})
	conn := n.ListenUDP(netip.MustParseAddrPort("192.0.2.2:0"))
	a := newBackend(t, conn, func(b []byte) []byte { return append([]byte("a "), b...) })
	b := named(t, "b", "127.0.0.1")
	l := newLab(t, setup{})
	l.serve(a.addr, b.addr)
	c := l.client()
	if got := c.ask("1"); got != "a 1" {
		t.Errorf("the client hears %q", got)
	}
	unreachable := &netlink.Route{Type: unix.RTN_UNREACHABLE, Dst: &net.IPNet{IP: net.IPv4(192, 0, 2, 2), Mask: net.CIDRMask(32, 32)}}
	must(t, netlink.RouteAdd(unreachable))
	t.Cleanup(func() { netlink.RouteDel(unreachable) })
	for _, question := range []string{"2", "3"} {
		if got := c.ask(question); got != "b "+question {
			t.Errorf("the client hears %q", got)
		}
	}
	if got := l.client().ask("4"); got != "b 4" { // connect(2) fails
		t.Errorf("a new client hears %q", got)
	}
}
