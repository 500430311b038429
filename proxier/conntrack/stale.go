package conntrack

import (
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An entry is a flow as the kernel tracks it. Without NAT, its replies have the
// same addresses and ports, the other way round.
type entry struct {
	src, dst           netip.AddrPort // of what the client sends
	replySrc, replyDst netip.AddrPort // of the replies: replySrc is where datagrams go
}

func entryOf(flow *netlink.ConntrackFlow) entry {
	out, back := &flow.Forward, &flow.Reverse
	return entry{
		src: addrPort(out.SrcIP, out.SrcPort), dst: addrPort(out.DstIP, out.DstPort),
		replySrc: addrPort(back.SrcIP, back.SrcPort), replyDst: addrPort(back.DstIP, back.DstPort),
	}
}

// addrPort has an invalid address, like no other, for what is none.
func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr, port)
}

// staleFlows finds the entries to delete. See the package's documentation for
// the rules.
type staleFlows struct {
	to    map[Destination][]uint16
	local map[netip.Addr]bool
	ports map[uint16]bool
}

// MatchConntrackFlow makes it a [netlink.CustomConntrackFilter].
func (s staleFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	return flow.Forward.Protocol == unix.IPPROTO_UDP && s.stale(entryOf(flow))
}

func (s staleFlows) stale(e entry) bool {
	ports, captured := s.portsFor(e.dst)
	known := s.own(e.replySrc.Addr()) && slices.Contains(ports, e.replySrc.Port())
	switch {
	case !captured:
		return !known && e.replySrc != e.dst && s.own(e.replySrc.Addr()) && s.ports[e.replySrc.Port()]
	case len(ports) == 0:
		return e.replySrc != e.dst || e.replyDst != e.src
	default:
		return !known
	}
}

// portsFor asks as the rules do: a frontend with an address of its own comes
// before a NodePort. A NodePort's ports are right also where it is not known to
// be captured: a route may make an address local that is none of the node's.
func (s staleFlows) portsFor(dst netip.AddrPort) (ports []uint16, captured bool) {
	if ports, captured = s.to[Destination{dst.Addr(), dst.Port()}]; captured {
		return ports, true
	}
	ports, captured = s.to[Destination{Port: dst.Port()}]
	return ports, captured && s.own(dst.Addr())
}

func (s staleFlows) own(addr netip.Addr) bool { return addr.IsLoopback() || s.local[addr] }
