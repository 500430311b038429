package udp

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/test/netns"
)

// patience is for what certainly comes, on a busy machine too.
const patience = 10 * time.Second

// account is what the Servers of one Socket were told.
type account struct {
	mu       sync.Mutex
	opened   int
	refused  int
	closed   []Session
	in, out  int
	bytesIn  int
	bytesOut int
	drops    map[observe.DropCause]int
}

func (a *account) Opened() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened++
}

func (a *account) Closed(s Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = append(a.closed, s)
}

func (a *account) Refused(Route, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused++
}

func (a *account) Datagrams(in, bytesIn, out, bytesOut int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.in, a.bytesIn, a.out, a.bytesOut = a.in+in, a.bytesIn+bytesIn, a.out+out, a.bytesOut+bytesOut
}

func (a *account) Dropped(cause observe.DropCause, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n != 0 {
		a.drops[cause] += n
	}
}

// passed is how many datagrams have gone to endpoints and to clients.
func (a *account) passed() (in, out int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.in, a.out
}

func (a *account) sessions() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.opened
}

// dropped is "cause=n ..." of all causes that dropped any.
func (a *account) dropped() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []string
	for _, cause := range slices.Sorted(maps.Keys(a.drops)) {
		list = append(list, fmt.Sprintf("%s=%d", cause, a.drops[cause]))
	}
	return strings.Join(list, " ")
}

func (a *account) count(cause observe.DropCause) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.drops[cause]
}

func (a *account) ended() []Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.closed)
}

// reasons are the reasons of the sessions that have ended, in order.
func (a *account) reasons() (list []observe.Reason) {
	for _, s := range a.ended() {
		list = append(list, s.Reason)
	}
	return list
}

// server leads every client to the first of its endpoints that is not tried.
type server struct {
	*account
	endpoints []netip.AddrPort
}

func (s *server) Route(client, local netip.AddrPort, tried []netip.AddrPort) (Route, error) {
	for _, e := range s.endpoints {
		if !slices.Contains(tried, e) {
			return Route{To: e}, nil
		}
	}
	return Route{}, &Refusal{observe.DropNoEndpoint}
}

func (s *server) Keeps(r Route) bool { return slices.Contains(s.endpoints, r.To) }

// lab is one Socket of a Relay, and what its Servers were told.
type lab struct {
	*account
	t      testing.TB
	relay  *Relay
	socket *Socket
	group  *Group
	closed bool
}

// setup says what is unusual in a lab.
type setup struct {
	addr           string // to listen at; 127.0.0.1:0 without
	loops, readers int    // 1 without
	limits         Limits // usualLimits without
	limit          int    // of the Relay, 10000 without
}

// newLab opens a Socket, which refuses until the lab serves. Everything ends with
// the test at the latest.
func newLab(t testing.TB, with setup) *lab {
	t.Helper()
	if with.addr == "" {
		with.addr = "127.0.0.1"
	}
	if with.limits == (Limits{}) {
		with.limits = usualLimits
	}
	if with.limit == 0 {
		with.limit = 10000
	}
	relay, err := New(Config{Loops: max(with.loops, 1), Readers: max(with.readers, 1), Limit: func() int { return with.limit }})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{account: &account{drops: map[observe.DropCause]int{}}, t: t, relay: relay, group: relay.Group(with.limits)}
	if l.socket, err = relay.Listen(freePort(t, netip.MustParseAddr(with.addr)), l.group); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close(observe.Shutdown) })
	return l
}

// close ends the Socket and the Relay.
func (l *lab) close(reason observe.Reason) {
	if !l.closed {
		l.closed = true
		l.socket.Close(reason)
		l.relay.Close()
	}
}

// serve leads clients to endpoints from now on.
func (l *lab) serve(endpoints ...netip.AddrPort) {
	l.t.Helper()
	if err := l.socket.Serve(&server{account: l.account, endpoints: endpoints}); err != nil {
		l.t.Fatal(err)
	}
}

// hold stops all loops until release is called: what is sent meanwhile waits.
func (l *lab) hold() (release func()) {
	held := make(chan struct{})
	var stopped sync.WaitGroup
	for _, loop := range l.relay.loops {
		stopped.Add(1)
		loop.post(func() { stopped.Done(); <-held })
	}
	stopped.Wait()
	return func() { close(held) }
}

// settle waits until the loops have done what they had to do up to now.
func (l *lab) settle() {
	for range 2 { // what was ready is done in the first round at the latest
		for _, loop := range l.relay.loops {
			loop.do(func() {})
		}
	}
}

// wantDrops fails unless the drops become so.
func (l *lab) wantDrops(want string) {
	l.t.Helper()
	netns.Eventually(l.t, "drops "+want, func() error {
		if got := l.dropped(); got != want {
			return fmt.Errorf("they are %q", got)
		}
		return nil
	})
}

// wantPassed fails unless so many datagrams come to have gone to endpoints.
func (l *lab) wantPassed(want int) {
	l.t.Helper()
	netns.Eventually(l.t, fmt.Sprint(want, " datagrams at endpoints"), func() error {
		if got, _ := l.passed(); got != want {
			return fmt.Errorf("they are %d", got)
		}
		return nil
	})
}

// wantReasons fails unless the sessions that have ended come to have these reasons.
func (l *lab) wantReasons(want ...observe.Reason) {
	l.t.Helper()
	netns.Eventually(l.t, fmt.Sprint("reasons ", want), func() error {
		if got := l.reasons(); !slices.Equal(got, want) {
			return fmt.Errorf("they are %v", got)
		}
		return nil
	})
}

// freePort is an address with a port that nobody has.
func freePort(t testing.TB, addr netip.Addr) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return netip.AddrPortFrom(addr, c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
}

// backend is an endpoint. It keeps what it gets.
type backend struct {
	conn *net.UDPConn
	addr netip.AddrPort
	done chan struct{}
	// asked gives the sender of each datagram; it is for tests with few of them.
	asked chan netip.AddrPort

	mu  sync.Mutex
	got []string
}

// newBackend answers each datagram with what answer makes of it; nil: not at all.
func newBackend(t testing.TB, conn *net.UDPConn, answer func(datagram []byte) []byte) *backend {
	b := &backend{conn: conn, addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), done: make(chan struct{}), asked: make(chan netip.AddrPort, 1000)}
	go b.run(answer)
	t.Cleanup(b.close)
	return b
}

func (b *backend) run(answer func([]byte) []byte) {
	defer close(b.done)
	buf := make([]byte, 1<<16)
	for {
		n, from, err := b.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a former datagram was refused
		}
		b.note(buf[:n], from)
		if reply := answer(buf[:n]); reply != nil {
			b.conn.WriteToUDPAddrPort(reply, from)
		}
	}
}

func (b *backend) note(datagram []byte, from netip.AddrPort) {
	b.mu.Lock()
	b.got = append(b.got, string(datagram[:min(len(datagram), 40)]))
	b.mu.Unlock()
	select {
	case b.asked <- from:
	default:
	}
}

// received is the beginning of all datagrams so far.
func (b *backend) received() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

func (b *backend) close() {
	b.conn.Close()
	<-b.done
}

// sender is who sent the next datagram that the test has not asked about yet.
func (b *backend) sender(t testing.TB) netip.AddrPort {
	t.Helper()
	select {
	case from := <-b.asked:
		return from
	case <-time.After(patience):
		t.Fatalf("nothing comes to %s", b.addr)
		return netip.AddrPort{}
	}
}

// listenAt opens a plain UDP socket.
func listenAt(t testing.TB, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echo is an endpoint that sends everything back.
func echo(t testing.TB, addr string) *backend {
	t.Helper()
	return newBackend(t, listenAt(t, netip.AddrPortFrom(netip.MustParseAddr(addr), 0)), func(b []byte) []byte { return b })
}

// named is an endpoint that puts its name before everything that it sends back.
func named(t testing.TB, name, addr string) *backend {
	t.Helper()
	return namedAt(t, name, netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
}

func namedAt(t testing.TB, name string, addr netip.AddrPort) *backend {
	t.Helper()
	return newBackend(t, listenAt(t, addr), func(b []byte) []byte { return []byte(name + " " + string(b)) })
}

// mute is an endpoint that answers nothing.
func mute(t testing.TB, addr string) *backend {
	t.Helper()
	return newBackend(t, listenAt(t, netip.AddrPortFrom(netip.MustParseAddr(addr), 0)), func([]byte) []byte { return nil })
}

// dead is an address where nobody listens.
func dead(t testing.TB, addr string) netip.AddrPort {
	t.Helper()
	return freePort(t, netip.MustParseAddr(addr))
}

// client is a client with a connected socket: it hears only the one it asks.
type client struct {
	*net.UDPConn
	t   testing.TB
	buf []byte
}

// client is a client of the lab's Socket.
func (l *lab) client() *client { l.t.Helper(); return l.clientFrom("") }

// clientFrom is one with a certain address.
func (l *lab) clientFrom(addr string) *client {
	l.t.Helper()
	var from *net.UDPAddr
	if addr != "" {
		from = &net.UDPAddr{IP: net.ParseIP(addr)}
	}
	return dial(l.t, from, reachable(l.socket.Addr()))
}

// reachable is the loopback address instead of the unspecified one.
func reachable(addr netip.AddrPort) netip.AddrPort {
	switch addr.Addr() {
	case netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port())
	case netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), addr.Port())
	}
	return addr
}

func dial(t testing.TB, from *net.UDPAddr, to netip.AddrPort) *client {
	t.Helper()
	c, err := net.DialUDP("udp", from, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{UDPConn: c, t: t, buf: make([]byte, 1<<16)}
}

func (c *client) addr() netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func (c *client) send(datagram string) {
	c.t.Helper()
	if _, err := c.Write([]byte(datagram)); err != nil {
		c.t.Fatal(err)
	}
}

// hear waits for the next reply.
func (c *client) hear() string {
	c.t.Helper()
	reply, err := c.hearOr(patience)
	if err != nil {
		c.t.Fatal(err)
	}
	return reply
}

func (c *client) hearOr(patience time.Duration) (string, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(c.buf)
	return string(c.buf[:n]), err
}

func (c *client) ask(datagram string) string {
	c.t.Helper()
	c.send(datagram)
	return c.hear()
}

// insist asks again and again until there is an answer, as clients of UDP do, and
// tells how often it had to.
func (c *client) insist(datagram string) (reply string, asked int) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		asked++
		c.send(datagram)
		reply, err := c.hearOr(100 * time.Millisecond)
		if err == nil {
			return reply, asked
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatal(err)
		}
	}
	c.t.Fatalf("no answer to %d datagrams", asked)
	return "", asked
}

// eachFamily runs a test with addresses of both families.
func eachFamily(t *testing.T, test func(t *testing.T, loopback string)) {
	t.Run("IPv4", func(t *testing.T) { test(t, "127.0.0.1") })
	t.Run("IPv6", func(t *testing.T) { test(t, "::1") })
}

// files is how many files this process has open.
func files(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list) - 1 // one lists the directory
}

// sameSet tells whether two lists have the same elements in any order.
func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func eventually(t testing.TB, what string, check func() bool) {
	t.Helper()
	netns.Eventually(t, what, func() error {
		if !check() {
			return errors.New("not so")
		}
		return nil
	})
}

// wantEachClosedOnce fails unless each session that was opened has ended once.
func (l *lab) wantEachClosedOnce() {
	l.t.Helper()
	times := map[string]int{}
	for _, s := range l.ended() {
		times[fmt.Sprint(s.Client, s.LocalPort, s.Start.UnixNano())]++
	}
	for session, n := range times {
		if n != 1 {
			l.t.Errorf("session %s was closed %d times", session, n)
		}
	}
	if opened := l.sessions(); opened != len(times) {
		l.t.Errorf("%d sessions were opened, %d have ended", opened, len(times))
	}
}
