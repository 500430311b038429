package tcp

import (
	"errors"
	"io"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// ErrWait says that nothing can be done now: there is nothing to read, or no room to
// write.
var ErrWait = errors.New("nothing to do for now")

// Conn is a TCP connection. Its methods never block.
type Conn struct{ Socket }

// New makes a connection of a socket that does not block, and owns it. The poller is the
// one that watches it, if anybody asks for that.
func New(fd int, p *Poller) *Conn { return &Conn{Socket{fd: int32(fd), poller: p}} }

// Read reads what has come. After the peer's FIN it returns io.EOF.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := receive(c.FD(), p, 0)
	switch {
	case err != nil:
		return 0, failure("recv", err)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Peek tells whether there is a byte to read, which it leaves there. After the peer's
// FIN it returns io.EOF. Any other error but ErrWait is taken from the socket: the next
// who asks sees a FIN.
func (c *Conn) Peek() error {
	n, err := receive(c.FD(), make([]byte, 1), unix.MSG_PEEK)
	switch {
	case err != nil:
		return failure("recv", err)
	case n == 0:
		return io.EOF
	}
	return nil
}

// Write writes as much as there is room for. If that is not all, the error is ErrWait,
// or why nothing more can be written.
func (c *Conn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		k, err := send(c.FD(), p[n:])
		if err != nil {
			return n, failure("send", err)
		}
		n += k
	}
	return n, nil
}

// CloseWrite sends a FIN.
func (c *Conn) CloseWrite() error {
	return os.NewSyscallError("shutdown", unix.Shutdown(c.FD(), unix.SHUT_WR))
}

// Reset is Close with a reset. What was not sent yet is lost.
func (c *Conn) Reset() error {
	if c.fd >= 0 {
		unix.SetsockoptLinger(c.FD(), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	return c.Close()
}

// LocalAddr is the socket's own address, the zero AddrPort if there is none.
func (c *Conn) LocalAddr() netip.AddrPort {
	addr, _ := name(c.FD())
	return addr
}

// LocalPort is that of the own address, if Connect has made the connection.
func (c *Conn) LocalPort() uint16 { return c.localPort }

// failure names the call that has failed.
func failure(call string, err error) error {
	if err == unix.EAGAIN {
		return ErrWait
	}
	return os.NewSyscallError(call, err)
}
