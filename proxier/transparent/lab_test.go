package transparent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

var mark = iptables.Mark{Value: 0x40000, Mask: 0x40000}

// outMark is on our own packets, as usher's are.
const outMark = 0x20000

// variant is one of the programs that write rules.
type variant struct {
	family  iptables.Family
	backend string
}

func (v variant) command() string {
	if v.family == iptables.IPv6 {
		return "ip6tables-" + v.backend
	}
	return "iptables-" + v.backend
}

// addr chooses the address of the family.
func (v variant) addr(v4, v6 netip.Addr) netip.Addr {
	if v.family == iptables.IPv6 {
		return v6
	}
	return v4
}

func (v variant) pod(p *netns.Pod) netip.Addr { return v.addr(p.IPv4, p.IPv6) }
func (v variant) node() netip.Addr            { return v.addr(netns.NodeIPv4, netns.NodeIPv6) }
func (v variant) client() netip.Addr          { return v.addr(netns.ClientIPv4, netns.ClientIPv6) }

// eachVariant runs a test in the kernel with every backend and family.
func eachVariant(t *testing.T, test func(t *testing.T, v variant)) {
	for _, backend := range []string{"nft", "legacy"} {
		for _, family := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
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

// eachFamily is eachVariant where the program makes no difference.
func eachFamily(t *testing.T, test func(t *testing.T, v variant)) {
	for _, family := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		t.Run(family.String(), func(t *testing.T) { test(t, variant{family, "nft"}) })
	}
}

// lab is a node where connections can be made from a client's address.
type lab struct {
	*netns.Node
	variant
	t     testing.TB
	paths *Paths
}

func newLab(t testing.TB, v variant) *lab {
	t.Helper()
	l := &lab{Node: netns.NewNode(t, "node"), variant: v, t: t}
	l.paths = newPaths(t, l.Node)
	l.mark("tcp")
	l.must(l.ensure())
	return l
}

func newPaths(t testing.TB, node *netns.Node) (paths *Paths) {
	t.Helper()
	var err error
	node.Do(func() { paths, err = NewPaths() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(paths.Close)
	return paths
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) ensure() (err error) {
	l.Do(func() { err = Routes{mark}.Ensure(l.family) })
	return err
}

// mark lets iptables mark the packets of a protocol that are for a transparent
// socket.
func (l *lab) mark(protocol string) {
	l.t.Helper()
	l.Run(l.command(), "-t", "mangle", "-A", "PREROUTING", "-p", protocol, "-m", "socket", "--transparent",
		"-j", "MARK", "--set-xmark", markName(mark))
}

// everyInterface writes a setting of each of the node's interfaces.
func (l *lab) everyInterface(setting, value string) {
	l.t.Helper()
	const dir = "net/ipv4/conf/"
	var names []os.DirEntry
	var err error
	l.Do(func() { names, err = os.ReadDir("/proc/sys/" + dir) })
	l.must(err)
	for _, name := range names {
		l.Sysctl(dir+name.Name()+"/"+setting, value)
	}
}

// dialer connects from an address, as usher does.
func dialer(client netip.Addr) *net.Dialer {
	return &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(client, 0)), Control: prepare}
}

// prepare is done to a socket before it is bound.
func prepare(_, _ string, c syscall.RawConn) error {
	var err error
	if controlErr := c.Control(func(fd uintptr) {
		err = Prepare(fd)
		syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_MARK, outMark)
	}); controlErr != nil {
		return controlErr
	}
	return err
}

// patience is for dials that must succeed; hopeless is for those that nobody
// will answer.
const (
	patience = 5 * time.Second
	hopeless = 300 * time.Millisecond
)

// dial connects to the endpoint from the client's address, whether that is
// wise or not.
func (l *lab) dial(client netip.Addr, endpoint netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.DialWith(ctx, dialer(client), "tcp", endpoint.String())
}

// mustNotConnect forces a connection that cannot come about.
func (l *lab) mustNotConnect(client netip.Addr, endpoint netip.AddrPort) {
	l.t.Helper()
	conn, err := l.dial(client, endpoint, hopeless)
	if err == nil {
		conn.Close()
		l.t.Errorf("%s connects to %s from %s", l.Name, endpoint, client)
	}
	if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
		l.t.Errorf("connect to %s from %s: %v; want a timeout", endpoint, client, err)
	}
}

// seenBy returns the address that an HTTP backend sees if it is dialled from
// the client's address.
func (l *lab) seenBy(backend *netns.Backend, client netip.Addr) (netip.Addr, error) {
	web := http.Client{Timeout: 2 * patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return l.dial(client, backend.Addr, patience)
		},
	}}
	resp, err := web.Get(fmt.Sprintf("http://%s/clientip", backend.Addr))
	if err != nil {
		return netip.Addr{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return netip.Addr{}, err
	}
	seen, err := netip.ParseAddrPort(string(body))
	return seen.Addr(), err
}

// obstacle decides, with the route looked up in the node.
func (l *lab) obstacle(f Flow) Obstacle {
	l.t.Helper()
	o, err := l.paths.Obstacle(f)
	l.must(err)
	return o
}
