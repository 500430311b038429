package udp

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

// neighbour is another machine, on a link of its own.
type neighbour struct {
	*netns.NS
	name, device string // of its end and of ours
}

// newNeighbour lays a cable to a new machine. Both ends get the addresses in the
// order ours, theirs.
func newNeighbour(t testing.TB, name string, addresses ...[2]string) *neighbour {
	t.Helper()
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(handle.Close)
	os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0) // the addresses given are all
	return neighbourOf(t, handle, netlink.NsPid(os.Getpid()), name, addresses)
}

// newNeighbour lays a cable from the neighbour to a new machine.
func (n *neighbour) newNeighbour(t testing.TB, name string, addresses ...[2]string) (far *neighbour) {
	t.Helper()
	n.Do(func() {
		file, err := os.Open("/proc/thread-self/ns/net")
		must(t, err)
		defer file.Close()
		far = neighbourOf(t, n.Netlink(), netlink.NsFd(file.Fd()), name, addresses)
	})
	return far
}

// neighbourOf is a neighbour of the machine whose handle and namespace these are.
func neighbourOf(t testing.TB, handle *netlink.Handle, namespace any, name string, addresses [][2]string) *neighbour {
	t.Helper()
	n := &neighbour{NS: netns.New(t, name), name: "eth0", device: "to-" + name}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.name
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = n.device, namespace
	must(t, n.Netlink().LinkAdd(veth))
	t.Cleanup(func() { remove(handle, n.device) })
	prepareEnd(t, handle, n.device, addresses, 0)
	prepareEnd(t, n.Netlink(), n.name, addresses, 1)
	netns.Eventually(t, "link "+n.device+" up", func() error {
		link, err := handle.LinkByName(n.device)
		if err == nil && link.Attrs().OperState != netlink.OperUp {
			err = fmt.Errorf("it is %v", link.Attrs().OperState)
		}
		return err
	})
	return n
}

// prepareEnd gives one end of a cable its addresses, which are the first or the
// second of each pair.
func prepareEnd(t testing.TB, handle *netlink.Handle, device string, addresses [][2]string, which int) {
	t.Helper()
	link, err := handle.LinkByName(device)
	must(t, err)
	must(t, handle.LinkSetUp(link))
	for _, pair := range addresses {
		must(t, handle.AddrAdd(link, address(t, pair[which])))
	}
}

// address is one that is usable at once.
func address(t testing.TB, text string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(text)
	must(t, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func remove(h *netlink.Handle, device string) {
	if link, err := h.LinkByName(device); err == nil {
		h.LinkDel(link)
	}
}

// route leads to a prefix through the neighbour.
func (n *neighbour) route(t testing.TB, prefix, via string) {
	t.Helper()
	link, err := netlink.LinkByName(n.device)
	must(t, err)
	_, to, err := net.ParseCIDR(prefix)
	must(t, err)
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: to, Gw: net.ParseIP(via)}
	must(t, netlink.RouteAdd(r))
	t.Cleanup(func() { netlink.RouteDel(r) })
}

// dial is a client's socket on the neighbour.
func (n *neighbour) dial(t testing.TB, to netip.AddrPort) (c *client) {
	t.Helper()
	n.Do(func() { c = dial(t, nil, to) })
	return c
}

// dialFrom is one with a certain address and port.
func (n *neighbour) dialFrom(t testing.TB, from string, port uint16, to netip.AddrPort) (c *client) {
	t.Helper()
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), port))
	n.Do(func() { c = dial(t, local, to) })
	return c
}

// ownAddress gives this machine one more address for the test.
func ownAddress(t testing.TB, text string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	a := address(t, text)
	must(t, netlink.AddrAdd(lo, a))
	t.Cleanup(func() { netlink.AddrDel(lo, a) })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// count is a counter of the kernel's, found by a pattern.
func (n *neighbour) count(file, pattern string) (value int) {
	match := regexp.MustCompile(pattern).FindStringSubmatch(n.Run("cat", file))
	if match == nil {
		return -1
	}
	value, _ = strconv.Atoi(match[1])
	return value
}
