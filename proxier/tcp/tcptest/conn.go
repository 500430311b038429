package tcptest

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/tcp"
)

// Pair returns both ends of a connection over loopback, as the runtime has them, while the
// test lasts.
func Pair(t testing.TB, d net.Dialer) (dialled, accepted *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := d.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// Adopt takes an end over from the runtime. The caller closes it.
func Adopt(t testing.TB, c *net.TCPConn, p *tcp.Poller) *tcp.Conn {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	failed := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(failed, err); err != nil {
		t.Fatal(err)
	}
	c.Close()
	return tcp.New(fd, p)
}

// Liveness is what the kernel knows of a socket.
func Liveness(fd int) (l tcp.Liveness, err error) {
	get := func(level, name int) time.Duration {
		value, failed := unix.GetsockoptInt(fd, level, name)
		err = errors.Join(err, failed)
		return time.Duration(value)
	}
	if get(unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 1 {
		l.KeepAlive = tcp.KeepAlive{
			Idle:     get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) * time.Second,
			Interval: get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL) * time.Second,
			Count:    int(get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT)),
		}
	}
	l.UserTimeout = get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) * time.Millisecond
	return l, err
}
