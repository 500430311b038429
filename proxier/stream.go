package proxier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/policyroute"
)

// streamSocket is one bound TCP socket. It keeps its port, and its one file, whatever
// its answer is; only the goroutine that accepts runs beside the reconcile loop.
type streamSocket struct {
	addr  netip.AddrPort
	ln    *net.TCPListener
	fd    int // of ln, which closes it
	now   answer
	shift *shift // nil unless it listens
}

// openStream binds addr, and refuses connections. It fails with EADDRINUSE if
// somebody else listens there.
func openStream(addr netip.AddrPort) (*streamSocket, error) {
	s := &streamSocket{addr: addr}
	var denied error
	// As only listen(2) finds out whether somebody else listens, it listens for a moment.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var full error
		err := c.Control(func(fd uintptr) {
			s.fd = int(fd)
			denied = policyroute.AllowForeign(s.fd, addr.Addr())
			full = spare(s.fd)
		})
		return errors.Join(err, full)
	}}
	config.SetMultipathTCP(false) // not everything that is asked of a TCP socket works with it
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6" // and nothing of IPv4
	}
	ln, err := config.Listen(context.Background(), network, addr.String())
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return nil, policyroute.Explain(op.Err, denied) // whoever asked knows the address
	}
	if err != nil {
		return nil, err
	}
	s.ln = ln.(*net.TCPListener)
	if err := s.refuse(); err != nil {
		s.ln.Close()
		return nil, err
	}
	return s, nil
}

// setReuse sets SO_REUSEADDR. A listener needs it, or the remains of its old
// connections would keep it from its port after a restart. A socket that refuses
// must not have it, or somebody else could listen on its port.
func setReuse(fd int, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return os.NewSyscallError("setsockopt SO_REUSEADDR", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, value))
}

// refuse makes the kernel answer connects with a reset. Connections already
// accepted go on; those that still wait to be accepted are reset.
func (s *streamSocket) refuse() error {
	if s.shift != nil {
		lookout.forget(s.shift) // or each would be called for its end
	}
	if err := unix.Shutdown(s.fd, unix.SHUT_RD); err != nil {
		return os.NewSyscallError("shutdown", err)
	}
	if s.shift != nil {
		s.shift.end()
		s.shift = nil
	}
	s.now.listen = false
	return errors.Join(setReuse(s.fd, false), s.filter(refusing))
}

// give makes want the answer from now on. handle gets every accepted connection
// and must not block; onError is told why connections cannot be accepted for
// the moment.
func (s *streamSocket) give(want answer, handle func(*net.TCPConn), onError func(error)) (err error) {
	if s.now.equal(want) {
		return nil
	}
	switch {
	case !want.listen:
		err = s.refuse()
	case s.shift != nil:
		err = s.filter(want)
	default:
		err = errors.Join(s.filter(want), s.serve(handle, onError))
	}
	if err == nil {
		s.now = want
	}
	return err
}

// filter makes the socket as deaf as an answer wants it.
func (s *streamSocket) filter(want answer) error {
	if !want.limited && !s.now.limited {
		return nil
	}
	s.now.limited = true // even if it fails half way
	return want.filter(s.fd)
}

// serve listens, and hands every accepted connection to handle.
func (s *streamSocket) serve(handle func(*net.TCPConn), onError func(error)) error {
	if err := setReuse(s.fd, true); err != nil {
		return err
	}
	if err := listenAgain(s.fd); err != nil {
		return fmt.Errorf("listen on %s: %w", s.addr, os.NewSyscallError("listen", err))
	}
	shift := &shift{ln: s.ln, fd: s.fd, handle: handle, onError: onError, over: make(chan struct{})}
	if err := lookout.watch(shift); err != nil {
		return errors.Join(err, s.refuse())
	}
	s.shift = shift
	return nil
}

// listenAgain is listen(2) with as large a backlog as net.core.somaxconn allows. A
// connection that came about in the very moment in which the socket stopped to listen
// has the port, too, until the kernel has reset it.
func listenAgain(fd int) (err error) {
	for range 10 {
		if err = unix.Listen(fd, 1<<16-1); err != unix.EADDRINUSE {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// close gives the port up.
func (s *streamSocket) close() {
	s.refuse() // whatever it says, the descriptor goes
	s.ln.Close()
}

func sockaddr(addr netip.AddrPort) (family int, to unix.Sockaddr) {
	if addr.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
}
