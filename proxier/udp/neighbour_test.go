package udp

import (
	"fmt"
	"net"
	"net/netip"
	"os"
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
	n := &neighbour{NS: netns.New(t, name), name: "eth0", device: "to-" + name}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.name
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = n.device, netlink.NsPid(os.Getpid())
	os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0) // the addresses given are all
	must(t, n.Netlink().LinkAdd(veth))
	here, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(here.Close)
	for i, end := range []struct {
		*netlink.Handle
		name string
	}{{here, n.device}, {n.Netlink(), n.name}} {
		link, err := end.LinkByName(end.name)
		must(t, err)
		must(t, end.LinkSetUp(link))
		for _, pair := range addresses {
			must(t, end.AddrAdd(link, address(t, pair[i])))
		}
	}
	t.Cleanup(func() { remove(here, n.device) })
	netns.Eventually(t, "link "+n.device+" up", func() error {
		link, err := here.LinkByName(n.device)
		if err == nil && link.Attrs().OperState != netlink.OperUp {
			err = fmt.Errorf("it is %v", link.Attrs().OperState)
		}
		return err
	})
	return n
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
