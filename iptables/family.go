package iptables

import "net/netip"

// Family is an IP address family. Each has tables of its own in the kernel, and
// programs of its own that write them.
type Family int

// The address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns the family's usual name.
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// icmp is the family's control protocol as iptables prints it.
func (f Family) icmp() string {
	if f == IPv6 {
		return "ipv6-icmp"
	}
	return "icmp"
}

// has says whether the address can stand in a rule of the family.
func (f Family) has(a netip.Addr) bool {
	if f == IPv6 {
		return a.Is6() && !a.Is4In6() && a.Zone() == ""
	}
	return a.Is4()
}

// hasPrefix says whether the prefix can stand in a rule of the family as it is.
func (f Family) hasPrefix(p netip.Prefix) bool {
	return p.IsValid() && f.has(p.Addr()) && p == p.Masked()
}

// loopback are the addresses that never leave a node.
func (f Family) loopback() netip.Prefix {
	if f == IPv6 {
		return netip.PrefixFrom(netip.IPv6Loopback(), 128)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
}
