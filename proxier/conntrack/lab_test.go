package conntrack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

var families = []iptables.Family{iptables.IPv4, iptables.IPv6}

// A lab is a node whose kernel tracks connections, in one address family, and a
// Reconciler on it. The client reaches all Services and the node's pods.
type lab struct {
	*netns.Node
	*Reconciler
	table   *countedTable
	family  iptables.Family
	netlink *netlink.Handle
	t       testing.TB
}

func newLab(t testing.TB, family iptables.Family) *lab {
	t.Helper()
	l := &lab{Node: netns.NewNode(t, "node"), family: family, t: t}
	l.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6, l.PodCIDRv4, l.PodCIDRv6)
	// Without any rule that asks for it, the kernel tracks nothing.
	l.iptables("filter", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
	var err, listErr error
	l.Do(func() {
		l.Reconciler, err = New(family)
		l.netlink, listErr = netlink.NewHandle(unix.NETLINK_NETFILTER)
	})
	if err := errors.Join(err, listErr); err != nil {
		t.Fatal(err)
	}
	l.table = &countedTable{table: l.Reconciler.table}
	l.Reconciler.table = l.table
	t.Cleanup(l.Reconciler.Close)
	t.Cleanup(l.netlink.Close)
	return l
}

// inBoth runs a scenario in a lab of each family.
func inBoth(t *testing.T, scenario func(t *testing.T, l *lab)) {
	for _, family := range families {
		t.Run(family.String(), func(t *testing.T) { scenario(t, newLab(t, family)) })
	}
}

// countedTable counts how often the table is read, and can fail.
type countedTable struct {
	table
	reads int
	fails error // for once, instead of reading
	after error // for once, after reading and deleting
}

func (c *countedTable) ConntrackDeleteFilters(t netlink.ConntrackTableType, f netlink.InetFamily, filters ...netlink.CustomConntrackFilter) (uint, error) {
	c.reads++
	fails, after := c.fails, c.after
	c.fails, c.after = nil, nil
	if fails != nil {
		return 0, fails
	}
	n, err := c.table.ConntrackDeleteFilters(t, f, filters...)
	return n, errors.Join(err, after)
}

// pick is what a lab of the family uses of the two.
func (l *lab) pick(v4, v6 netip.Addr) netip.Addr {
	if l.family == iptables.IPv6 {
		return v6
	}
	return v4
}

// vip is the nth cluster IP.
func (l *lab) vip(n byte) netip.Addr {
	return l.pick(netip.AddrFrom4([4]byte{10, 96, 0, n}), netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", n)))
}

func (l *lab) dns(n byte) netip.AddrPort { return netip.AddrPortFrom(l.vip(n), 53) }

func (l *lab) loopback() netip.Addr {
	return l.pick(netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
}

// node is the node's address, and bridge that towards its pods.
func (l *lab) node() netip.Addr   { return l.pick(l.IPv4, l.IPv6) }
func (l *lab) bridge() netip.Addr { return l.pick(l.Bridge4, l.Bridge6) }

// addresses are the node's own, except for loopback, as a caller knows them.
func (l *lab) addresses() map[netip.Addr]bool {
	return map[netip.Addr]bool{l.IPv4: true, l.IPv6: true, l.Bridge4: true, l.Bridge6: true}
}

func (l *lab) pod(name string) (pod *netns.Pod, addr netip.Addr) {
	pod = l.AddPod(netns.Bridged, name)
	return pod, l.pick(pod.IPv4, pod.IPv6)
}

func (l *lab) iptables(table string, args ...string) {
	l.t.Helper()
	program := "iptables"
	if l.family == iptables.IPv6 {
		program = "ip6tables"
	}
	l.Run(program, append([]string{"-w", "-t", table}, args...)...)
}

// rule replaces the rules for what comes from other machines by one for a UDP
// destination.
func (l *lab) rule(dst netip.AddrPort, target ...string) {
	l.t.Helper()
	l.iptables("nat", "-F", "PREROUTING")
	l.addRule(dst, target...)
}

func (l *lab) addRule(dst netip.AddrPort, target ...string) {
	l.t.Helper()
	args := []string{"-A", "PREROUTING", "-p", "udp", "-d", dst.Addr().String(), "--dport", fmt.Sprint(dst.Port())}
	l.iptables("nat", append(args, target...)...)
}

func redirectTo(port uint16) []string {
	return []string{"-j", "REDIRECT", "--to-ports", fmt.Sprint(port)}
}

func dnatTo(to netip.AddrPort) []string {
	return []string{"-j", "DNAT", "--to-destination", to.String()}
}

// entries are all that the kernel tracks of a protocol in the lab's family.
func (l *lab) entries(protocol uint8) (list []entry) {
	l.t.Helper()
	flows, err := l.netlink.ConntrackTableList(netlink.ConntrackTable, inetFamily(l.family))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, flow := range flows {
		if flow.Forward.Protocol == protocol {
			list = append(list, entryOf(flow))
		}
	}
	return list
}

// sync expects a number of deletions and no error.
func (l *lab) sync(want int, to map[Destination][]uint16) {
	l.t.Helper()
	if deleted, err := l.Sync(to, l.addresses()); deleted != want || err != nil {
		l.t.Errorf("deleted %d, %v; want %d", deleted, err, want)
	}
}

// captured is a Sync's argument for one destination.
func captured(dst netip.AddrPort, ports ...uint16) map[Destination][]uint16 {
	return map[Destination][]uint16{{dst.Addr(), dst.Port()}: ports}
}

// A client sends datagrams to one destination, all from the same port.
type client struct {
	l        *lab
	conn     *net.UDPConn
	src, dst netip.AddrPort
}

// outside is a client on the machine outside of the cluster, that has sent.
func (l *lab) outside(dst netip.AddrPort) *client {
	l.t.Helper()
	return l.client(l.Client, l.pick(netns.ClientIPv4, netns.ClientIPv6), dst)
}

func (l *lab) client(on *netns.NS, addr netip.Addr, dst netip.AddrPort) *client {
	l.t.Helper()
	c := &client{l: l, dst: dst}
	c.conn = on.ListenUDP(netip.AddrPortFrom(addr, 0))
	c.src = netip.MustParseAddrPort(c.conn.LocalAddr().String())
	c.send()
	return c
}

// send sends one datagram, and returns when the kernel has tracked it.
func (c *client) send() {
	c.l.t.Helper()
	if _, err := c.conn.WriteToUDPAddrPort([]byte("hello"), c.dst); err != nil {
		c.l.t.Fatal(err)
	}
	netns.Eventually(c.l.t, fmt.Sprintf("entry of %v to %v", c.src, c.dst), func() error {
		if !c.tracked() {
			return fmt.Errorf("only %v", c.l.entries(unix.IPPROTO_UDP))
		}
		return nil
	})
}

func (c *client) tracked() bool { return c.goesTo().IsValid() }

// goesTo is where the kernel sends the client's datagrams; invalid if the next
// one is asked of the rules.
func (c *client) goesTo() netip.AddrPort {
	c.l.t.Helper()
	list := c.l.entries(unix.IPPROTO_UDP)
	i := slices.IndexFunc(list, func(e entry) bool { return e.src == c.src && e.dst == c.dst })
	if i < 0 {
		return netip.AddrPort{}
	}
	return list[i].replySrc
}

// expect says where the client's datagrams must go.
func (c *client) expect(want netip.AddrPort) {
	c.l.t.Helper()
	if got := c.goesTo(); got != want {
		c.l.t.Errorf("datagrams of %v to %v go to %v, want %v", c.src, c.dst, got, want)
	}
}

// forgotten is what goesTo says when the entry is gone.
var forgotten netip.AddrPort

func (l *lab) listener(port uint16) netip.AddrPort { return netip.AddrPortFrom(l.node(), port) }
