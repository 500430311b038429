package iptables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { netns.Main(m) }

// variant is one of the programs that write rules.
type variant struct {
	family  Family
	backend string
}

func (v variant) command() string { return v.family.command() + "-" + v.backend }

// eachVariant runs a test in the kernel with every backend and family.
func eachVariant(t *testing.T, test func(t *testing.T, v variant)) {
	for _, backend := range []string{"nft", "legacy"} {
		for _, family := range []Family{IPv4, IPv6} {
			v := variant{family, backend}
			t.Run(v.command(), func(t *testing.T) {
				if _, err := exec.LookPath(v.command()); err != nil {
					t.Skip(err)
				}
				test(t, v)
			})
		}
	}
}

// lab is a node with a Table.
type lab struct {
	*netns.Node
	variant
	t     *testing.T
	table *Table
}

func newLab(t *testing.T, v variant) *lab {
	t.Helper()
	l := &lab{Node: netns.NewNode(t, "node"), variant: v, t: t}
	l.table = l.open(osExec{})
	return l
}

// open makes a Table on the node, as a new process would.
func (l *lab) open(x execer) (table *Table) {
	l.t.Helper()
	var err error
	l.Do(func() { table, err = newTable(l.family, x, Command(l.command())) })
	if err != nil {
		l.t.Fatal(err)
	}
	return table
}

// sync applies rules, which must succeed.
func (l *lab) sync(r Rules) {
	l.t.Helper()
	var err error
	l.Do(func() { err = l.table.Sync(context.Background(), r) })
	if err != nil {
		l.t.Fatal(err)
	}
}

// verify applies rules and returns what was different.
func (l *lab) verify(r Rules) (different []Difference) {
	l.t.Helper()
	var err error
	l.Do(func() { different, err = l.table.Verify(context.Background(), r) })
	if err != nil {
		l.t.Fatal(err)
	}
	return different
}

// diff compares rules with what is there.
func (l *lab) diff(r Rules) (different []Difference) {
	l.t.Helper()
	var err error
	l.Do(func() { different, err = l.table.Diff(context.Background(), r) })
	if err != nil {
		l.t.Fatal(err)
	}
	return different
}

func (l *lab) cleanup() {
	l.t.Helper()
	var err error
	l.Do(func() { err = l.table.Cleanup(context.Background()) })
	if err != nil {
		l.t.Fatal(err)
	}
}

// installed reads the redirects back.
func (l *lab) installed() (redirects []Redirect) {
	l.t.Helper()
	var err error
	l.Do(func() { redirects, err = l.table.Installed(context.Background()) })
	if err != nil {
		l.t.Fatal(err)
	}
	return redirects
}

// iptables runs a command of the variant on the node.
func (l *lab) iptables(args ...string) string {
	l.t.Helper()
	return l.Run(l.command(), args...)
}

// saved returns the rules of all tables, without what changes by itself: time
// stamps and the counters of chains.
func (l *lab) saved() string {
	l.t.Helper()
	var b strings.Builder
	for s := range strings.Lines(l.Run(l.command() + "-save")) {
		if strings.HasPrefix(s, "#") {
			continue
		}
		if strings.HasPrefix(s, ":") {
			s, _, _ = strings.Cut(s, " [")
		}
		b.WriteString(strings.TrimSpace(s) + "\n")
	}
	return b.String()
}

// addr chooses the address of the lab's family.
func (v variant) addr(v4, v6 netip.Addr) netip.Addr {
	if v.family == IPv6 {
		return v6
	}
	return v4
}

func (v variant) nodeAddr() netip.Addr   { return v.addr(netns.NodeIPv4, netns.NodeIPv6) }
func (v variant) clientAddr() netip.Addr { return v.addr(netns.ClientIPv4, netns.ClientIPv6) }

// vip returns the nth cluster IP.
func (v variant) vip(n byte) netip.Addr {
	return v.addr(netip.AddrFrom4([4]byte{10, 96, 0, n}),
		netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", n)))
}

func (v variant) wildcard(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(v.addr(netip.IPv4Unspecified(), netip.IPv6Unspecified()), port)
}

func (v variant) loopback() netip.Addr {
	return v.addr(netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
}

// own gives a machine one more address, and waits until what is sent there
// arrives: the kernel makes that route a moment later if it is IPv6.
func (l *lab) own(ns *netns.NS, addr netip.Addr) {
	l.t.Helper()
	ns.Run("ip", "addr", "add", addr.String(), "dev", "lo")
	netns.Eventually(l.t, fmt.Sprintf("%v has %v", ns.Name, addr), func() error {
		routes, err := ns.Netlink().RouteGet(addr.AsSlice())
		if err == nil && routes[0].Type != unix.RTN_LOCAL {
			err = fmt.Errorf("routed to %v", routes[0])
		}
		return err
	})
}

// only is the prefix of one address.
func only(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// network is tcp or udp in this family only.
func (v variant) network(p Protocol) string { return fmt.Sprintf("%s%d", p, v.family) }

// rules are redirects with what else the lab's node needs.
func (v variant) rules(redirects ...Redirect) Rules {
	return Rules{
		Redirects: redirects,
		Mark:      Mark{usherMark, usherMark},
		Numbered:  []string{"lo", "eth0", "cni0"},
		NodeAddr:  v.nodeAddr(),
	}
}

// serveOriginal starts a TCP server on all addresses of a namespace that tells
// every client what it dialled.
func (l *lab) serveOriginal(ns *netns.NS, port uint16) {
	l.t.Helper()
	listener := ns.Listen(l.network(TCP), l.wildcard(port))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, l.originalDst(conn.(*net.TCPConn)))
			conn.Close()
		}
	}()
	l.t.Cleanup(func() {
		listener.Close()
		<-done
	})
}

// originalDst returns what the client of an accepted connection dialled
// (SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST), or an error as text.
func (v variant) originalDst(conn *net.TCPConn) (dst string) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err.Error()
	}
	raw.Control(func(fd uintptr) {
		var addr netip.Addr
		var port [2]byte
		if v.family == IPv6 {
			info, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
			if err != nil {
				dst = err.Error()
				return
			}
			addr, port = netip.AddrFrom16(info.Addr.Addr), [2]byte{byte(info.Addr.Port), byte(info.Addr.Port >> 8)}
		} else {
			// The 16 bytes of a struct sockaddr_in.
			info, err := unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST)
			if err != nil {
				dst = err.Error()
				return
			}
			in := info.Multiaddr
			addr, port = netip.AddrFrom4([4]byte(in[4:8])), [2]byte(in[2:4])
		}
		dst = netip.AddrPortFrom(addr, uint16(port[0])<<8|uint16(port[1])).String()
	})
	return dst
}

// ask connects from a namespace and returns what the server there says.
func (l *lab) ask(from *netns.NS, to netip.AddrPort) (string, error) {
	return answer(from.Dial(l.network(TCP), to.String()))
}

// askMarked is ask by a socket that has our mark.
func (l *lab) askMarked(from *netns.NS, to netip.AddrPort) (string, error) {
	return answer(from.DialWith(context.Background(), marked(), l.network(TCP), to.String()))
}

// marked dials by a socket that has our mark.
func marked() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, usherMark)
		}), err)
	}}
}

func answer(conn net.Conn, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer conn.Close()
	said, err := io.ReadAll(conn)
	return string(said), err
}

// expectAnswer says that the listener on the node is reached, and learns what
// was dialled.
func (l *lab) expectAnswer(who string, from *netns.NS, to netip.AddrPort) {
	l.t.Helper()
	if got, err := l.ask(from, to); err != nil || got != to.String() {
		l.t.Errorf("%s dials %v: reached as %q, error %v", who, to, got, err)
	}
}

// serveName starts a server on all addresses of a namespace, told by its name.
func (l *lab) serveName(name string, ns *netns.NS, port uint16) {
	l.t.Helper()
	ns.ServeHTTP(name, l.wildcard(port))
}

// expectListener says which server is reached.
func (l *lab) expectListener(who string, from *netns.NS, to netip.AddrPort, name string) {
	l.t.Helper()
	if got, err := from.Get("http://" + to.String()); err != nil || got != name {
		l.t.Errorf("%s dials %v: reached %q, error %v, want %q", who, to, got, err, name)
	}
}

// patience is for how long an answer that must not come is awaited. One that
// comes takes a few milliseconds.
const patience = 500 * time.Millisecond

// expectSilence says that a dial gets no answer, not even a refusal.
func (l *lab) expectSilence(who string, from *netns.NS, dialer *net.Dialer, to netip.AddrPort) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := from.DialWith(ctx, dialer, l.network(TCP), to.String())
	if err == nil {
		conn.Close()
	}
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		l.t.Errorf("%s dials %v: error %v, want silence", who, to, err)
	}
}

// expectRefused says that nobody seems to listen.
func (l *lab) expectRefused(who string, from *netns.NS, to netip.AddrPort) {
	l.t.Helper()
	if got, err := l.ask(from, to); !errors.Is(err, unix.ECONNREFUSED) {
		l.t.Errorf("%s dials %v: answer %q, error %v, want connection refused", who, to, got, err)
	}
}

// send sends a datagram from a namespace.
func (l *lab) send(from *netns.NS, to netip.AddrPort, text string) {
	l.t.Helper()
	conn, err := from.Dial(l.network(UDP), to.String())
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		l.t.Fatal(err)
	}
}
