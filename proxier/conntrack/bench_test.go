package conntrack

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
)

// BenchmarkUnchanged is what every pass costs that changes no UDP frontend.
func BenchmarkUnchanged(b *testing.B) {
	l := newLab(b, iptables.IPv4)
	l.sync(0, l.many(10_000))
	to, addresses := l.many(10_000), l.addresses()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Sync(to, addresses); err != nil {
			b.Fatal(err)
		}
	}
	if l.table.reads != 1 {
		b.Errorf("table read %d times", l.table.reads)
	}
}

// many is that many destinations, 16 at each address.
func (l *lab) many(n int) map[Destination][]uint16 {
	to := map[Destination][]uint16{}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 97, byte(i >> 12), byte(i >> 4)})
		to[Destination{addr, uint16(1000 + i%16)}] = []uint16{uint16(20000 + i)}
	}
	return to
}

// BenchmarkChanged is a pass that has to read a table of that many entries, all
// of which may stay.
func BenchmarkChanged(b *testing.B) {
	for _, entries := range []int{1000, 5000} {
		b.Run(fmt.Sprint(entries), func(b *testing.B) {
			l := newLab(b, iptables.IPv4)
			for i := range entries {
				l.track(b, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1000))
			}
			toggle := []map[Destination][]uint16{captured(l.dns(10), 53), captured(l.dns(20), 53)}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if deleted, err := l.Sync(toggle[i%2], l.addresses()); deleted != 0 || err != nil {
					b.Fatal(deleted, err)
				}
			}
		})
	}
}

// track puts an entry of a forwarded flow into the table.
func (l *lab) track(b *testing.B, src netip.AddrPort) {
	b.Helper()
	server := netip.MustParseAddrPort("203.0.113.7:53")
	tuple := func(src, dst netip.AddrPort) netlink.IPTuple {
		return netlink.IPTuple{
			Protocol: unix.IPPROTO_UDP, SrcIP: net.IP(src.Addr().AsSlice()), SrcPort: src.Port(),
			DstIP: net.IP(dst.Addr().AsSlice()), DstPort: dst.Port(),
		}
	}
	flow := &netlink.ConntrackFlow{FamilyType: unix.AF_INET, TimeOut: 600, Forward: tuple(src, server), Reverse: tuple(server, src)}
	if err := l.netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, flow); err != nil {
		b.Fatal(err)
	}
}
