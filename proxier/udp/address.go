package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// flow tells apart the clients of one socket: where a datagram comes from, and
// the address of ours that it went to. It has no padding, so a map hashes it in
// one go.
type flow struct {
	client, local [16]byte // of IPv4: the first four bytes
	scope         uint32   // interface of a link-local IPv6 address
	port          uint32
}

// control is room for what the kernel tells about a datagram: its packet info,
// and how many of its like were lost.
type control [96]byte

// received is what a datagram's name and control messages say.
type received struct {
	flow
	device   uint32 // interface that it came in by
	overflow uint32 // how many datagrams the socket has lost so far
}

// receivedBy reads the i-th datagram's name and control messages.
func (b *batch) received(i int) (r received) {
	name := &b.names[i]
	if name.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		copy(r.client[:], v4.Addr[:])
	} else {
		r.client, r.scope = name.Addr, name.Scope_id
	}
	r.port = uint32(networkOrder(name.Port)) // at the same place in both
	r.readControl(b.controls[i][:b.headers[i].header.Controllen])
	return r
}

// readControl reads the control messages (cmsg(3), ip(7), ipv6(7)).
func (r *received) readControl(messages []byte) {
	for len(messages) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&messages[0]))
		if h.Len < unix.SizeofCmsghdr || uint64(h.Len) > uint64(len(messages)) {
			return
		}
		data := messages[unix.SizeofCmsghdr:h.Len]
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			r.device = binary.NativeEndian.Uint32(data)
			copy(r.local[:4], data[4:8]) // ipi_spec_dst, the address to answer from
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			copy(r.local[:], data[:16])
			r.device = binary.NativeEndian.Uint32(data[16:])
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			r.overflow = binary.NativeEndian.Uint32(data)
		}
		messages = messages[min(unix.CmsgSpace(len(data)), len(messages)):]
	}
}

func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// flowOf is the flow between two addresses of one family.
func flowOf(client netip.AddrPort, local netip.Addr, scope uint32) flow {
	return flow{client: addrBytes(client.Addr()), local: addrBytes(local), scope: scope, port: uint32(client.Port())}
}

func addrBytes(a netip.Addr) (b [16]byte) {
	if !a.Is4() {
		return a.As16()
	}
	v4 := a.As4()
	copy(b[:], v4[:])
	return b
}

// clientAddr and localAddr are the addresses of a flow of one family.
func (f flow) clientAddr(is4 bool) netip.AddrPort {
	return netip.AddrPortFrom(addr(f.client, is4), uint16(f.port))
}

func (f flow) localAddr(is4 bool) netip.Addr { return addr(f.local, is4) }

func addr(b [16]byte, is4 bool) netip.Addr {
	if is4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}

// way is where datagrams go to and come from, ready for sendmmsg(2). The zero way is
// that of a connected socket.
type way struct {
	name    unix.RawSockaddrInet6
	nameLen uint32
	control [unix.SizeofCmsghdr + 24]byte
	length  int  // of control
	whole   bool // the kernel does not take several datagrams as one here
}

// replyTo answers what was received.
func replyTo(r received, is4 bool) (to way) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&to.control[0]))
	data := to.control[unix.SizeofCmsghdr:]
	if is4 {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&to.name))
		*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(uint16(r.port)), Addr: [4]byte(r.client[:4])}
		to.nameLen = unix.SizeofSockaddrInet4
		h.Level, h.Type = unix.SOL_IP, unix.IP_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		copy(data[4:8], r.local[:4])
		to.length = unix.CmsgSpace(unix.SizeofInet4Pktinfo)
		return to
	}
	to.name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(uint16(r.port)), Addr: r.client, Scope_id: r.scope}
	to.nameLen = unix.SizeofSockaddrInet6
	h.Level, h.Type = unix.SOL_IPV6, unix.IPV6_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	copy(data, r.local[:])
	if netip.AddrFrom16(r.local).IsLinkLocalUnicast() { // elsewhere routing decides
		binary.NativeEndian.PutUint32(data[16:], r.device)
	}
	to.length = unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	return to
}

// sockaddr is an address as golang.org/x/sys/unix takes it.
func sockaddr(a netip.AddrPort) (family int, to unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
