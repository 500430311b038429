package proxier

import "net/netip"

// loopback are the loopback addresses of a family.
func (f Family) loopback() netip.Prefix {
	if f == IPv6 {
		return netip.PrefixFrom(netip.IPv6Loopback(), 128)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
}

// prefixes are where the node's addresses have to be to serve NodePorts, nil for
// anywhere. primary is the node's address in the family, if it is known.
//
// As in kube-proxy, a family without any CIDR in the list is served on all its
// addresses. Unlike there, an unknown primary address means none, not all.
func (n NodePortAddresses) prefixes(family Family, primary netip.Addr) (list []netip.Prefix) {
	for _, p := range n.CIDRs {
		if familyOf(p.Addr()) != family {
			continue
		}
		if p.Bits() == 0 {
			return nil
		}
		list = append(list, p)
	}
	if n.Primary && primary.IsValid() {
		list = append(list, netip.PrefixFrom(primary, primary.BitLen()))
	}
	if n.Localhost {
		list = append(list, family.loopback())
	}
	if len(list) == 0 && n.Primary {
		nowhere := family.wildcard()
		return []netip.Prefix{netip.PrefixFrom(nowhere, nowhere.BitLen())}
	}
	return list
}

// choose leaves those addresses of the node on which NodePorts are served.
func (n NodePortAddresses) choose(family Family, addrs []netip.Addr, primary netip.Addr) (chosen []netip.Addr) {
	on := n.prefixes(family, primary)
	for _, a := range addrs {
		if (on == nil || contains(on, a)) && !(n.NotLocalhost && a.IsLoopback()) {
			chosen = append(chosen, a)
		}
	}
	return chosen
}
