package proxier

import (
	"context"
	"net/netip"
	"sync"

	"github.com/usher-proxy/usher/iptables"
)

// Leftover returns a function that tells which ServicePort the rules of an
// earlier usher capture an address for, "" if none. The rules are read when it
// is first called; what cannot be read is nobody's.
func Leftover(ctx context.Context) func(netip.AddrPort) string {
	owners := sync.OnceValue(func() map[netip.AddrPort]string { return installed(ctx) })
	return func(addr netip.AddrPort) string { return owners()[addr] }
}

func installed(ctx context.Context) map[netip.AddrPort]string {
	owners := map[netip.AddrPort]string{}
	for _, family := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		table, err := iptables.New(family)
		if err != nil {
			continue
		}
		redirects, err := table.Installed(ctx)
		if err != nil {
			continue
		}
		for _, r := range redirects {
			if r.Protocol == iptables.TCP && r.Addr.IsValid() {
				owners[netip.AddrPortFrom(r.Addr, r.Port)] = r.Name
			}
		}
	}
	return owners
}
