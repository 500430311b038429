package proxier

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A socket filter (classic BPF, bpf(4)) lets a socket be silent: what it drops
// never reaches TCP or UDP, so the client gets neither an answer nor a refusal.

// maxFilterPrefixes keeps a filter within what net.core.optmem_max allows. Where
// there are more, everybody is let in, and who may not be gets a reset (TCP) or is
// dropped after all (UDP).
const maxFilterPrefixes = 100

// setFilter makes a socket deaf to all but clients in only. It replaces a filter
// that is there. Connections accepted before keep the one that they began with.
func setFilter(fd int, only []netip.Prefix) error {
	program := filterFor(only)
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}))
}

// filter makes a socket as deaf as the answer wants it.
func (a answer) filter(fd int) error {
	if a.limited && len(a.only) <= maxFilterPrefixes {
		return setFilter(fd, a.only)
	}
	if err := clearFilter(fd); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil // there was none
}

// clearFilter lets a socket hear everybody again.
func clearFilter(fd int) error {
	return os.NewSyscallError("setsockopt SO_DETACH_FILTER", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
}

// Where the source address is, from the network header on.
const (
	networkHeader = 0xfff00000 // SKF_NET_OFF
	sourceIPv4    = networkHeader + 12
	sourceIPv6    = networkHeader + 8
)

// filterFor returns a program that keeps what comes from the prefixes.
func filterFor(only []netip.Prefix) (program []unix.SockFilter) {
	for _, p := range only {
		program = append(program, keepFrom(p)...)
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}) // 0 bytes: drop
}

// keepFrom compares the source address with a prefix word by word, and keeps the
// packet if all are equal. Otherwise it leads to the instruction after it.
func keepFrom(p netip.Prefix) (program []unix.SockFilter) {
	addr, at := p.Addr().AsSlice(), uint32(sourceIPv4)
	if p.Addr().Is6() {
		at = sourceIPv6
	}
	words := (p.Bits() + 31) / 32
	for i := range words {
		mask := ^uint32(0)
		if rest := p.Bits() - 32*i; rest < 32 {
			mask <<= 32 - rest
		}
		toEnd := uint8(3*(words-1-i) + 1)
		program = append(program,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at + uint32(4*i)},
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(addr[4*i:]) & mask, Jf: toEnd},
		)
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1})
}
