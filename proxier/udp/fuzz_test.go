package udp

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is one control message, as the kernel writes it (cmsg(3)).
func message(level, kind int32, data ...byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[unix.SizeofCmsghdr:], data)
	return b
}

func u32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// FuzzControl has control messages that no kernel would write. They are read
// without a panic and within their bounds; those that are right are understood.
func FuzzControl(f *testing.F) {
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	v4 := message(unix.SOL_IP, unix.IP_PKTINFO, join(u32(7), []byte{192, 0, 2, 1, 198, 51, 100, 1})...)
	v6 := message(unix.SOL_IPV6, unix.IPV6_PKTINFO, join(make([]byte, 16), u32(7))...)
	lost := message(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, u32(42)...)
	f.Add([]byte{})
	f.Add(v4)
	f.Add(join(v4, lost))
	f.Add(join(v6, lost))
	f.Add(join(lost, v6))
	f.Add(v4[:len(v4)-5])
	f.Add(message(unix.SOL_IP, unix.IP_PKTINFO, 1, 2, 3))
	f.Add(join(message(99, 99, 1), lost))
	for _, length := range []uint64{0, 1, unix.SizeofCmsghdr - 1, 4096, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		wrong := join(v4, lost)
		binary.NativeEndian.PutUint64(wrong, length)
		f.Add(wrong)
	}
	f.Fuzz(func(t *testing.T, messages []byte) {
		if len(messages) > len(control{}) {
			return // the kernel has no room for more
		}
		b := &batch{} // the datagrams themselves do not matter
		copy(b.controls[0][:], messages)
		b.headers[0].header.SetControllen(len(messages))
		for i := len(messages); i < len(control{}); i++ {
			b.controls[0][i] = 0xff
		}
		within := b.received(0)
		for i := len(messages); i < len(control{}); i++ {
			b.controls[0][i] = 0
		}
		if b.received(0) != within {
			t.Errorf("what lies behind %x changes what is read", messages)
		}
	})
}

func TestControl(t *testing.T) {
	v4 := message(unix.SOL_IP, unix.IP_PKTINFO, append(u32(7), 192, 0, 2, 1, 198, 51, 100, 1)...)
	v6 := message(unix.SOL_IPV6, unix.IPV6_PKTINFO, append(netip.MustParseAddr("fe80::1").AsSlice(), u32(7)...)...)
	lost := message(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, u32(42)...)
	for name, c := range map[string]struct {
		messages []byte
		local    string
		device   uint32
		lost     uint32
	}{
		"IPv4":                    {v4, "192.0.2.1", 7, 0},
		"IPv4, some lost":         {append(v4, lost...), "192.0.2.1", 7, 42},
		"IPv6":                    {v6, "fe80::1", 7, 0},
		"some lost, IPv6":         {append(lost, v6...), "fe80::1", 7, 42},
		"behind an unknown one":   {append(message(99, 99, 1, 2, 3), v6...), "fe80::1", 7, 0},
		"cut off":                 {v4[:len(v4)-8], "0.0.0.0", 0, 0},
		"nothing":                 {nil, "0.0.0.0", 0, 0},
		"too little packet info":  {message(unix.SOL_IP, unix.IP_PKTINFO, 1, 2), "0.0.0.0", 0, 0},
		"a count of another kind": {message(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1), "0.0.0.0", 0, 0},
	} {
		var r received
		r.readControl(c.messages)
		local := netip.MustParseAddr(c.local)
		if got := r.localAddr(local.Is4()); got != local || r.device != c.device || r.overflow != c.lost {
			t.Errorf("%s: %s, device %d, %d lost", name, got, r.device, r.overflow)
		}
	}
}
