package relay

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readable waits until conn has a byte to read, and does not take it; false is
// for the peer's FIN. An error is taken from the socket: the next who asks sees a
// FIN.
func readable(conn *net.TCPConn) (bool, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, err
	}
	var peeked error
	var n int
	buf := make([]byte, 1)
	err = raw.Read(func(fd uintptr) bool {
		n, _, peeked = unix.Recvfrom(int(fd), buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		for peeked == unix.EINTR {
			n, _, peeked = unix.Recvfrom(int(fd), buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		}
		return peeked != unix.EAGAIN
	})
	if err == nil {
		err = os.NewSyscallError("recvfrom", peeked)
	}
	return err == nil && n > 0, err
}

// culprit finds the side whose connection has ended. The error of a splice does
// not tell which of the two it was, their TCP states do.
func culprit(dst, src *side, err error) *side {
	srcClosed, dstClosed := isClosed(src.conn), isClosed(dst.conn)
	switch {
	case srcClosed && !dstClosed:
		return src
	case dstClosed && !srcClosed:
		return dst
	case errors.Is(err, syscall.EPIPE):
		return dst // only a write fails with EPIPE
	}
	return src
}

// tcpClose is TCP_CLOSE of the kernel's TCP states.
const tcpClose = 7

func isClosed(conn *net.TCPConn) bool {
	closed := false
	control(conn, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		closed = err == nil && info.State == tcpClose
	})
	return closed
}

// Ended returns why a connection that nobody reads from is over in both directions,
// nil if it is not. It takes the error from the socket.
func Ended(conn *net.TCPConn) error {
	if !isClosed(conn) {
		return nil
	}
	errno := 0
	control(conn, func(fd int) { errno, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) })
	if errno == 0 {
		return syscall.ECONNRESET // somebody was told of it before
	}
	return syscall.Errno(errno)
}

// moved is the number of bytes that the peer has sent and acknowledged.
func moved(conn *net.TCPConn) (n uint64) {
	control(conn, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO); err == nil {
			n = info.Bytes_received + info.Bytes_acked
		}
	})
	return n
}

// unsent is the number of bytes that the peer has not acknowledged yet.
func unsent(conn *net.TCPConn) int {
	n := 0
	control(conn, func(fd int) { n, _ = unix.IoctlGetInt(fd, unix.SIOCOUTQ) })
	return n
}

func control(conn *net.TCPConn, f func(fd int)) {
	if raw, err := conn.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// stalled is how long a peer may acknowledge nothing of what the other one sent
// before its reset.
const stalled = 10 * time.Second

// waitSent waits until the peer has acknowledged everything, until it makes no
// progress for that long, or until aborted. The kernel tells nobody when that happens, so it
// has to be asked; this is only done before a reset, which discards the rest.
func waitSent(conn *net.TCPConn, stalled time.Duration, aborted <-chan struct{}) {
	left, deadline := unsent(conn), time.Now().Add(stalled)
	for pause := time.Millisecond; left > 0 && time.Now().Before(deadline); pause = min(2*pause, 50*time.Millisecond) {
		select {
		case <-aborted:
			return
		case <-time.After(pause):
		}
		if now := unsent(conn); now < left {
			left, deadline = now, time.Now().Add(stalled)
		}
	}
}
