package policyroute

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// dummyAddr is where ICMP errors come from (RFC 7600). From the Service address they
// would be martians: to this node that address is its own.
var dummyAddr = netip.AddrFrom4([4]byte{192, 0, 0, 8})

// refusal is the answer to a packet for which there is no socket: a reset, or ICMP
// port unreachable. It is nil where there is to be none.
func refusal(packet []byte) []byte {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return refusal4(packet)
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return refusal6(packet)
	}
	return nil
}

// flowOf tells who sent a packet, and where to.
func flowOf(packet []byte) (src netip.Addr, to Destination, ok bool) {
	header := 40
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		header = int(packet[0]&15) * 4
		src, to.Addr, to.Protocol = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:])), Protocol(packet[9])
	case len(packet) >= 40 && packet[0]>>4 == 6:
		src, to.Addr, to.Protocol = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:])), Protocol(packet[6])
	}
	if !src.IsValid() || len(packet) < header+4 {
		return src, to, false
	}
	to.Port = binary.BigEndian.Uint16(packet[header+2:])
	return src, to, true
}

func refusal4(packet []byte) []byte {
	header, total := int(packet[0]&15)*4, int(binary.BigEndian.Uint16(packet[2:]))
	if header < 20 || total < header || total > len(packet) || binary.BigEndian.Uint16(packet[6:])&0x1fff != 0 {
		return nil // broken, or not the first fragment
	}
	src, dst := packet[12:16], packet[16:20]
	var payload []byte
	from := dst
	switch packet[9] {
	case unix.IPPROTO_TCP:
		payload = reset(packet[header:total])
	case unix.IPPROTO_UDP:
		// As much as a router may quote (RFC 1812, 4.3.2.3).
		payload, from = unreachable(3, 3, packet[:min(total, 576-28)]), dummyAddr.AsSlice()
	}
	if payload == nil {
		return nil
	}
	answer := make([]byte, 20, 20+len(payload))
	answer[0], answer[8], answer[9] = 4<<4|5, 64, unix.IPPROTO_TCP
	answer[6] = 0x40 // don't fragment
	binary.BigEndian.PutUint16(answer[2:], uint16(20+len(payload)))
	copy(answer[12:], from)
	copy(answer[16:], src)
	if packet[9] == unix.IPPROTO_TCP {
		setChecksum(payload[16:], payload, pseudo(from, src, unix.IPPROTO_TCP, len(payload)))
	} else {
		answer[9] = unix.IPPROTO_ICMP
		setChecksum(payload[2:], payload, 0)
	}
	setChecksum(answer[10:], answer, 0)
	return append(answer, payload...)
}

func refusal6(packet []byte) []byte {
	total := 40 + int(binary.BigEndian.Uint16(packet[4:]))
	if total > len(packet) {
		return nil
	}
	src, dst := packet[8:24], packet[24:40]
	var payload []byte
	next := uint8(unix.IPPROTO_TCP)
	switch packet[6] { // what has extension headers gets no answer
	case unix.IPPROTO_TCP:
		payload = reset(packet[40:total])
	case unix.IPPROTO_UDP:
		next = unix.IPPROTO_ICMPV6
		payload = unreachable(1, 4, packet[:min(total, 1280-48)]) // RFC 4443, 3.1
	}
	if payload == nil {
		return nil
	}
	answer := make([]byte, 40, 40+len(payload))
	answer[0], answer[6], answer[7] = 6<<4, next, 64
	binary.BigEndian.PutUint16(answer[4:], uint16(len(payload)))
	copy(answer[8:], dst)
	copy(answer[24:], src)
	at := payload[2:]
	if next == unix.IPPROTO_TCP {
		at = payload[16:]
	}
	setChecksum(at, payload, pseudo(dst, src, next, len(payload)))
	return append(answer, payload...)
}

// The flags of a TCP header.
const (
	fin = 1 << iota
	syn
	rst
	_
	ack
)

// reset answers a segment as RFC 9293, 3.10.7.1 says for a closed port.
func reset(segment []byte) []byte {
	if len(segment) < 20 || segment[13]&rst != 0 {
		return nil
	}
	answer := make([]byte, 20)
	copy(answer, segment[2:4])
	copy(answer[2:], segment[:2])
	answer[12] = 5 << 4
	if segment[13]&ack != 0 {
		copy(answer[4:], segment[8:12])
		answer[13] = rst
		return answer
	}
	length := max(len(segment)-int(segment[12]>>4)*4, 0)
	if segment[13]&syn != 0 {
		length++
	}
	if segment[13]&fin != 0 {
		length++
	}
	binary.BigEndian.PutUint32(answer[8:], binary.BigEndian.Uint32(segment[4:])+uint32(length))
	answer[13] = rst | ack
	return answer
}

// unreachable is an ICMP error that quotes a packet.
func unreachable(kind, code byte, quote []byte) []byte {
	return append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, quote...)
}

// pseudo sums up the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
func pseudo(src, dst []byte, protocol uint8, length int) uint32 {
	return sum(src) + sum(dst) + uint32(protocol) + uint32(length)
}

func sum(b []byte) (s uint32) {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

// setChecksum writes the Internet checksum of data, which is 0 there so far.
func setChecksum(at, data []byte, s uint32) {
	s += sum(data)
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	binary.BigEndian.PutUint16(at, ^uint16(s))
}
