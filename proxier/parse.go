package proxier

import (
	"net/netip"
	"strings"

	netutils "k8s.io/utils/net"
)

// ParseAddr reads an address as Kubernetes does: surrounding space and leading
// zeros are accepted, and an IPv4 address in IPv6 clothes is an IPv4 address.
func ParseAddr(text string) (netip.Addr, bool) {
	ip, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(strings.TrimSpace(text)))
	return ip.Unmap(), ok
}

// ParsePrefix reads a CIDR in the same manner. Bits beyond its length do not
// count.
func ParsePrefix(text string) (netip.Prefix, bool) {
	_, n, err := netutils.ParseCIDRSloppy(strings.TrimSpace(text))
	if err != nil {
		return netip.Prefix{}, false
	}
	ip, _ := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	ip = ip.Unmap()
	return netip.PrefixFrom(ip, max(0, ones-(bits-ip.BitLen()))).Masked(), true
}
