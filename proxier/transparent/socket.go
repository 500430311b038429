package transparent

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
)

// Prepare lets a TCP or UDP socket that is not bound yet be bound to any address
// (IP_TRANSPARENT), and lets connect choose its port instead of bind
// (IP_BIND_ADDRESS_NO_PORT). It is what the Control function of a net.Dialer has
// to do when LocalAddr is the client's address with port 0. It fails with EPERM
// without CAP_NET_ADMIN or CAP_NET_RAW. See ip(7).
//
// By the latter, one port serves TCP connections to many endpoints. A port of
// UDP stays one socket's own: connect fails with EAGAIN when as many sockets
// have the client's address as there are ports in ip_local_port_range. But
// between bind and connect, a socket without a port receives nothing of what
// others are sent.
func Prepare(fd uintptr) error {
	// The level of IPv4 serves both families.
	if err := unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1); err != nil {
		return os.NewSyscallError("setsockopt IP_TRANSPARENT", err)
	}
	return os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT",
		unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1))
}

// checkSockets tells why no socket of the family can be transparent.
func checkSockets(family iptables.Family) error {
	fd, err := unix.Socket(domain(family), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return explain(os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	return explain(Prepare(uintptr(fd)))
}

func domain(family iptables.Family) int {
	if family == iptables.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// explain adds to an error of the kernel what to do about it.
func explain(err error) error {
	switch {
	case is(err, unix.EPERM, unix.EACCES):
		return fmt.Errorf("%w (CAP_NET_ADMIN is needed)", err)
	case is(err, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.ENOPROTOOPT):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}

func is(err error, errnos ...syscall.Errno) bool {
	for _, errno := range errnos {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
