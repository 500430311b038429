package tcp

import (
	"context"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Target is what to connect to, and how.
type Target struct {
	Addr netip.AddrPort
	// From is the own address; the zero Addr leaves it to routing.
	From netip.Addr
	// Prepare, if not nil, is called with the socket before it is bound.
	Prepare func(fd int) error
	// Poller watches the connection.
	Poller *Poller
}

// Connect waits until the connection is made, has failed, until limit, or until ctx is
// done. An error of the kernel is an *os.SyscallError; after limit it is
// os.ErrDeadlineExceeded.
func Connect(ctx context.Context, t Target, limit time.Time) (*Conn, error) {
	for range 3 {
		c, err := connectOnce(ctx, t, limit)
		if err != nil {
			return nil, err
		}
		own := c.LocalAddr()
		if own != t.Addr {
			c.localPort = own.Port()
			return c, nil
		}
		// Nobody listens at a port of this node that the kernel may choose for us, and it
		// has: the connection is one with itself (RFC 9293, 3.5, simultaneous open).
		c.Reset()
	}
	return nil, os.NewSyscallError("connect", unix.ECONNREFUSED)
}

func connectOnce(ctx context.Context, t Target, limit time.Time) (*Conn, error) {
	c, to, err := open(t)
	if err != nil {
		return nil, err
	}
	// To an endpoint of this node the connection is made by now, and the second call
	// says so.
	if err = c.connect(to); err == ErrWait {
		err = c.connect(to)
	}
	if err == ErrWait {
		err = c.await(ctx, to, limit)
	}
	if err != nil {
		c.Reset()
		return nil, err
	}
	return c, nil
}

// open makes a socket that is ready to connect.
func open(t Target) (c *Conn, to unix.Sockaddr, err error) {
	addr := netip.AddrPortFrom(t.Addr.Addr().Unmap(), t.Addr.Port())
	fd, err := Open(addr.Addr())
	if err != nil {
		return nil, nil, err
	}
	c = New(fd, t.Poller)
	if t.Prepare != nil {
		err = t.Prepare(fd)
	}
	if err == nil && t.From.IsValid() {
		err = os.NewSyscallError("bind", unix.Bind(fd, Sockaddr(netip.AddrPortFrom(t.From.Unmap(), 0))))
	}
	if err == nil {
		err = NoDelay(fd)
	}
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, Sockaddr(addr), nil
}

// Open opens a socket of an address's family that does not block. It is the caller's.
func Open(a netip.Addr) (fd int, err error) {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	return fd, os.NewSyscallError("socket", err)
}

// connect begins to connect, or tells how far that has come.
func (c *Conn) connect(to unix.Sockaddr) error {
	switch err := unix.Connect(c.FD(), to); err {
	case nil, unix.EISCONN:
		return nil
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR:
		return ErrWait
	default:
		return os.NewSyscallError("connect", err)
	}
}

// await waits for a connection that is being made.
func (c *Conn) await(ctx context.Context, to unix.Sockaddr, limit time.Time) error {
	changed := make(called, 1)
	if err := c.WatchWrite(changed); err != nil {
		return err
	}
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	for {
		select {
		case <-changed:
			if err := c.connect(to); err != ErrWait {
				return err
			}
		case <-timer.C:
			return os.ErrDeadlineExceeded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// called is a handler that somebody waits for.
type called chan struct{}

func (c called) Ready(*Poller, Events) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Sockaddr is an address as system calls take it.
func Sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
