package policyroute

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Bind is bind(2) for a TCP or UDP socket that serves a Service: the address need not
// be one of this node's (IP_TRANSPARENT, ip(7)), if the process has CAP_NET_ADMIN or
// CAP_NET_RAW. Loopback addresses and the wildcard need neither.
func Bind(fd int, to unix.Sockaddr) error {
	denied := AllowForeign(fd, addrOf(to))
	return Explain(os.NewSyscallError("bind", unix.Bind(fd, to)), denied)
}

// AllowForeign lets a socket be bound to an address that no interface has. Where that
// is denied, for want of CAP_NET_ADMIN, other addresses can be bound all the same: the
// error is for Explain.
func AllowForeign(fd int, addr netip.Addr) (denied error) {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return nil
	}
	// The level of IPv4 serves both families.
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
}

// Explain adds to what bind(2) has failed with that AllowForeign was denied, if that is
// the reason.
func Explain(err, denied error) error {
	if errors.Is(err, unix.EADDRNOTAVAIL) && denied != nil {
		return fmt.Errorf("%w: no interface of this node has the address, and serving it all the same needs CAP_NET_ADMIN", err)
	}
	return err
}

func addrOf(to unix.Sockaddr) netip.Addr {
	switch to := to.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(to.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(to.Addr)
	}
	return netip.Addr{}
}
