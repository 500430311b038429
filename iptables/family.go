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

// has says whether the address can stand in a rule of the family.
func (f Family) has(a netip.Addr) bool {
	if f == IPv6 {
		return a.Is6() && !a.Is4In6() && a.Zone() == ""
	}
	return a.Is4()
}
