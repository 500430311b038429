package tcp

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// tcpClose is TCP_CLOSE of the kernel's TCP states.
const tcpClose = 7

// Closed says whether both directions are over, which a reset does to a connection.
func (c *Conn) Closed() bool {
	info, err := unix.GetsockoptTCPInfo(c.FD(), unix.SOL_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpClose
}

// Info is what the kernel knows of the connection (TCP_INFO), nil if it is closed.
func (c *Conn) Info() *unix.TCPInfo {
	info, err := unix.GetsockoptTCPInfo(c.FD(), unix.SOL_TCP, unix.TCP_INFO)
	if err != nil {
		return nil
	}
	return info
}

// Err is why the connection has failed, nil if it has not, or if somebody was told of that
// before. It takes the error from the socket (SO_ERROR).
func (c *Conn) Err() error {
	if errno, _ := unix.GetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_ERROR); errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}

// Moved is the number of bytes that the peer has sent and acknowledged.
func (c *Conn) Moved() uint64 {
	info, err := unix.GetsockoptTCPInfo(c.FD(), unix.SOL_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return info.Bytes_received + info.Bytes_acked
}

// Unsent is the number of bytes that the peer has not acknowledged yet (SIOCOUTQ).
func (c *Conn) Unsent() int {
	n, _ := unix.IoctlGetInt(c.FD(), unix.SIOCOUTQ)
	return n
}
