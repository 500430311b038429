package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkLocal is the IPv6 link-local address that every host end has, as routers do.
var linkLocal = netip.MustParsePrefix("fe80::1/64")

// must fails the test if a step of building the lab failed.
func (ns *NS) must(err error, format string, args ...any) {
	ns.t.Helper()
	if err != nil {
		ns.t.Fatalf("namespace %s: %s: %v", ns.Name, fmt.Sprintf(format, args...), err)
	}
}

// link finds a network interface, which must exist.
func (ns *NS) link(name string) netlink.Link {
	ns.t.Helper()
	l, err := ns.netlink.LinkByName(name)
	ns.must(err, "find link %s", name)
	return l
}

func (ns *NS) up(l netlink.Link) {
	ns.t.Helper()
	ns.must(ns.netlink.LinkSetUp(l), "set link %s up", l.Attrs().Name)
}

// addVeth lays a cable from a new link of ns to a new link of peer, both up.
func (ns *NS) addVeth(name string, peer *NS, peerName string) (end, peerEnd netlink.Link) {
	ns.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := netlink.NewVeth(attrs)
	veth.PeerName = peerName
	veth.PeerNamespace = netlink.NsFd(peer.file.Fd())
	ns.must(ns.netlink.LinkAdd(veth), "add link %s", name)

	end, peerEnd = ns.link(name), peer.link(peerName)
	ns.up(end)
	peer.up(peerEnd)
	ns.awaitUp(end)
	peer.awaitUp(peerEnd)
	return end, peerEnd
}

// awaitUp waits until the link carries packets; before, the kernel drops them silently.
func (ns *NS) awaitUp(l netlink.Link) {
	ns.t.Helper()
	name := l.Attrs().Name
	Eventually(ns.t, "link "+name+" up", func() error {
		now, err := ns.netlink.LinkByIndex(l.Attrs().Index)
		if err != nil {
			return err
		}
		if state := now.Attrs().OperState; state != netlink.OperUp {
			return fmt.Errorf("link is %v", state)
		}
		return nil
	})
}

// addAddr gives the link an address that is usable at once: an IPv6 address is not probed
// for duplicates.
func (ns *NS) addAddr(l netlink.Link, p netip.Prefix) {
	ns.t.Helper()
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	ns.must(ns.netlink.AddrAdd(l, addr), "add address %v to %s", p, l.Attrs().Name)
	if p.Addr().Is6() {
		ns.awaitLocal(l, p.Addr())
	}
}

// awaitLocal waits until what is sent to an IPv6 address of the link arrives here: the kernel
// makes that route a moment after the address.
func (ns *NS) awaitLocal(l netlink.Link, addr netip.Addr) {
	ns.t.Helper()
	wanted := &netlink.Route{Table: unix.RT_TABLE_LOCAL, LinkIndex: l.Attrs().Index, Dst: ipNet(only(addr))}
	Eventually(ns.t, fmt.Sprintf("address %v of %s usable", addr, l.Attrs().Name), func() error {
		routes, err := ns.netlink.RouteListFiltered(unix.AF_INET6, wanted,
			netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST)
		if err == nil && len(routes) == 0 {
			err = errors.New("no local route")
		}
		return err
	})
}

// addRoute sends what goes to dst out of the link: directly, or through the gateway via, which
// need not lie in a subnet of the link.
func (ns *NS) addRoute(dst netip.Prefix, l netlink.Link, via netip.Addr) {
	ns.t.Helper()
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(dst)}
	if via.IsValid() {
		r.Gw = via.AsSlice()
		r.SetFlag(netlink.FLAG_ONLINK)
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	ns.must(ns.netlink.RouteAdd(r), "add route %v via %v dev %s", dst, via, l.Attrs().Name)
}

// defaultRoute is everything of the family of addr.
func defaultRoute(addr netip.Addr) netip.Prefix {
	if addr.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// only is the prefix that holds nothing but addr.
func only(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// ipNet keeps the host part, unlike [net.ParseCIDR].
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
