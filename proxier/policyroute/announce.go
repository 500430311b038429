package policyroute

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// proxied is an address that this node answers for on an interface (ip neigh: proxy).
type proxied struct {
	addr  netip.Addr
	iface int
}

// announce has the plan answer for the addresses that want it, on the interfaces in whose
// subnets they are: nobody asks for them elsewhere. Where somebody else has an entry there
// already, that one does.
func (p *plan) announce(family Family, list []Destination, there map[proxied]bool) error {
	p.proxied = map[proxied]bool{}
	var own []netlink.Addr
	for _, d := range list {
		if !d.Announced {
			continue
		}
		if own == nil {
			var err error
			if own, err = netlink.AddrList(nil, domain(family)); err != nil {
				p.proxied = there
				return fmt.Errorf("list addresses: %w", err)
			}
		}
		for _, a := range own {
			if a.Contains(d.Addr.AsSlice()) {
				at := proxied{d.Addr, a.LinkIndex}
				ours, has := there[at]
				p.proxied[at] = ours || !has
			}
		}
	}
	return nil
}

// remember knows entries as ours that were so before: Linux before 5.2 does not keep who
// has made one.
func (p *plan) remember(before map[proxied]bool) {
	for at := range p.proxied {
		p.proxied[at] = p.proxied[at] || before[at]
	}
}

// writeProxies makes the one of the other. Entries of others stay.
func (r *Router) writeProxies(there, want map[proxied]bool) (errs []error) {
	prepared := map[int]bool{}
	for at := range want {
		if _, has := there[at]; !has {
			errs = append(errs, r.kernel.addProxy(at))
		}
		if !at.addr.Is4() && !prepared[at.iface] {
			prepared[at.iface] = true
			errs = append(errs, proxyNDP(at.iface))
		}
	}
	for at, ours := range there {
		if _, wanted := want[at]; ours && !wanted {
			errs = append(errs, r.kernel.deleteProxy(at))
		}
	}
	return errs
}

// proxies are the entries of a family, and whether they are ours.
func (s *socket) proxies(family Family) (map[proxied]bool, error) {
	found := map[proxied]bool{}
	_, err := whole(func() (none []struct{}, err error) {
		clear(found)
		r := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		r.AddData(&netlink.Ndmsg{Family: uint8(domain(family)), Flags: unix.NTF_PROXY})
		entries, err := r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
		for _, entry := range entries {
			if at, ours, ok := fromNeighbour(entry); ok {
				found[at] = ours
			}
		}
		return nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("list IPv%d neighbour entries: %w", family, explain(err))
	}
	return found, nil
}

// fromNeighbour reads struct ndmsg and its attributes.
func fromNeighbour(entry []byte) (at proxied, ours, ok bool) {
	if len(entry) < unix.SizeofNdMsg || entry[10]&unix.NTF_PROXY == 0 {
		return at, false, false
	}
	at.iface = int(nativeUint32(entry[4:]))
	eachAttribute(entry[unix.SizeofNdMsg:], func(kind uint16, value []byte) {
		switch kind {
		case netlink.NDA_DST:
			at.addr, ok = netip.AddrFromSlice(value)
		case netlink.NDA_PROTOCOL:
			ours = len(value) == 1 && value[0] == protocolNumber
		}
	})
	return at, ours, ok
}

func (s *socket) addProxy(p proxied) error {
	err := s.ask(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_EXCL, p.message()...)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("announce %v: %w", p, explain(err))
	}
	return nil
}

func (s *socket) deleteProxy(p proxied) error {
	err := s.ask(unix.RTM_DELNEIGH, 0, p.message()...)
	if err != nil && !is(err, unix.ENOENT, unix.ENODEV) {
		return fmt.Errorf("no longer announce %v: %w", p, explain(err))
	}
	return nil
}

// message is the body of a request. A permanent entry outlives the loss of the link.
func (p proxied) message() []nl.NetlinkRequestData {
	return []nl.NetlinkRequestData{
		&netlink.Ndmsg{Family: uint8(domain(familyOf(p.addr))), Index: uint32(p.iface), State: netlink.NUD_PERMANENT, Flags: unix.NTF_PROXY},
		nl.NewRtAttr(netlink.NDA_DST, p.addr.AsSlice()),
		nl.NewRtAttr(netlink.NDA_PROTOCOL, nl.Uint8Attr(protocolNumber)),
	}
}

// proxyNDP has the kernel look at the neighbour entries of an interface (ip-sysctl.rst).
// It stays so: without entries it means nothing.
func proxyNDP(iface int) error {
	link, err := netlink.LinkByIndex(iface)
	if err != nil {
		return fmt.Errorf("find the interface to announce on: %w", err)
	}
	path := fmt.Sprintf("/proc/sys/net/ipv6/conf/%s/proxy_ndp", link.Attrs().Name)
	if now, err := os.ReadFile(path); err == nil && len(now) > 0 && now[0] == '1' {
		return nil
	}
	return os.WriteFile(path, []byte("1"), 0)
}
