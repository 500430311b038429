package policyroute

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// proxied is an address that this node answers for on an interface (ip neigh: proxy).
type proxied struct {
	addr  netip.Addr
	iface int
}

func (p proxied) neighbour() *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: p.iface, Family: domain(familyOf(p.addr)), Flags: unix.NTF_PROXY, IP: p.addr.AsSlice()}
}

// announce has the kernel answer for the addresses that want it, on the interfaces in
// whose subnets they are: nobody asks for them elsewhere.
func (r *Router) announce(f *familyState, list []Destination, verify bool) error {
	want, err := proxies(f.family, list)
	if err != nil {
		return err
	}
	var errs []error
	for p := range want {
		if f.proxied[p] && !verify {
			continue
		}
		err := netlink.NeighSet(p.neighbour())
		if err == nil && f.family == IPv6 {
			err = proxyNDP(p.iface)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("announce %s: %w", p.addr, explain(err)))
		}
	}
	for p := range f.proxied {
		if want[p] {
			continue
		}
		if err := netlink.NeighDel(p.neighbour()); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("no longer announce %s: %w", p.addr, explain(err)))
		}
	}
	f.proxied = want
	return summary(errs)
}

// proxies are the neighbour entries for the addresses that are announced.
func proxies(family Family, list []Destination) (map[proxied]bool, error) {
	want := map[proxied]bool{}
	var own []netlink.Addr
	for _, d := range list {
		if !d.Announced {
			continue
		}
		if own == nil {
			var err error
			if own, err = netlink.AddrList(nil, domain(family)); err != nil {
				return nil, fmt.Errorf("list addresses: %w", err)
			}
		}
		for _, a := range own {
			if a.Contains(d.Addr.AsSlice()) {
				want[proxied{d.Addr, a.LinkIndex}] = true
			}
		}
	}
	return want, nil
}

// proxyNDP has the kernel look at the neighbour entries of an interface (ip-sysctl.rst).
// It stays so: without entries it means nothing.
func proxyNDP(iface int) error {
	link, err := netlink.LinkByIndex(iface)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/proc/sys/net/ipv6/conf/%s/proxy_ndp", link.Attrs().Name)
	if now, err := os.ReadFile(path); err == nil && len(now) > 0 && now[0] == '1' {
		return nil
	}
	return os.WriteFile(path, []byte("1"), 0)
}
