package tcp

import (
	"os"

	"golang.org/x/sys/unix"
)

// KeepUrgent leaves urgent bytes where they are in the stream (SO_OOBINLINE), as RFC 6093
// wants it: the kernel takes those that are not read yet out of it otherwise. It is for
// when Events are Urgent, as most peers never send any.
func (c *Conn) KeepUrgent() error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1))
}

// Unread is the number of bytes that have come and were not read (SIOCINQ). A read at the
// mark of urgent data says ErrWait in spite of them when the thread has a signal to take
// (tcp_recvmsg in net/ipv4/tcp.c), of which the runtime sends many.
func (c *Conn) Unread() int {
	n, _ := unix.IoctlGetInt(c.FD(), unix.SIOCINQ)
	return n
}
