package tcp

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These are the system calls that every connection takes, or every byte. They do not wait,
// so the runtime need not know of them.

// receive and send cost less than read(2) and write(2), which are for all kinds of files.
func receive(fd int, p []byte, flags uintptr) (int, error) {
	return onBytes(unix.SYS_RECVFROM, fd, p, flags)
}

// send fails with EPIPE where write would send a signal, too.
func send(fd int, p []byte) (int, error) {
	return onBytes(unix.SYS_SENDTO, fd, p, unix.MSG_NOSIGNAL)
}

func onBytes(call uintptr, fd int, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// accept and name do without the question for the socket's protocol that unix.Accept4 and
// unix.Getsockname ask the kernel each time.
func accept(fd int) (int, netip.AddrPort, error) {
	return withAddr(unix.SYS_ACCEPT4, fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
}

func name(fd int) (netip.AddrPort, error) {
	_, addr, err := withAddr(unix.SYS_GETSOCKNAME, fd, 0)
	return addr, err
}

func withAddr(call uintptr, fd int, flags uintptr) (int, netip.AddrPort, error) {
	var raw unix.RawSockaddrInet6 // has room for one of IPv4
	size := uint32(unsafe.Sizeof(raw))
	n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)), flags, 0, 0)
	if errno != 0 {
		return 0, netip.AddrPort{}, errno
	}
	return int(n), rawAddrPort(&raw), nil
}

// rawAddrPort is what the kernel says of an address. One of IPv4 is none of IPv6.
func rawAddrPort(raw *unix.RawSockaddrInet6) netip.AddrPort {
	switch raw.Family {
	case unix.AF_INET:
		raw := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		return netip.AddrPortFrom(netip.AddrFrom4(raw.Addr), hostOrder(raw.Port))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(raw.Addr).Unmap(), hostOrder(raw.Port))
	}
	return netip.AddrPort{}
}

func hostOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, port))
}
