package proxier

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// streamSocket is one bound TCP socket. It keeps its port whatever its answer is;
// only its accept goroutine runs beside the reconcile loop.
type streamSocket struct {
	addr netip.AddrPort
	fd   int
	now  answer
	ln   *net.TCPListener // a duplicate for the accept goroutine, nil if there is none
	done chan struct{}    // closed when the accept goroutine has ended
}

// openStream binds addr, and refuses connections. It fails with EADDRINUSE if
// somebody else listens there.
func openStream(addr netip.AddrPort) (*streamSocket, error) {
	family, to := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := spare(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	s := &streamSocket{addr: addr, fd: fd}
	if err := s.bind(family, to); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

// bind binds and, as only listen(2) finds out whether somebody else listens,
// listens for a moment.
func (s *streamSocket) bind(family int, to unix.Sockaddr) error {
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if err := setReuse(s.fd, true); err != nil {
		return err
	}
	if err := unix.Bind(s.fd, to); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(s.fd, 0); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return s.refuse()
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
	if err := unix.Shutdown(s.fd, unix.SHUT_RD); err != nil {
		return os.NewSyscallError("shutdown", err)
	}
	if s.ln != nil {
		// Without this, an accept that is out of files would not notice.
		s.ln.Close()
		<-s.done
		s.ln = nil
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
	case s.ln != nil:
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
	// The kernel bounds the backlog by net.core.somaxconn.
	if err := unix.Listen(s.fd, 1<<16-1); err != nil {
		return fmt.Errorf("listen on %s: %w", s.addr, os.NewSyscallError("listen", err))
	}
	ln, err := s.listener()
	if err != nil {
		return errors.Join(err, s.refuse())
	}
	s.ln, s.done = ln, make(chan struct{})
	go acceptLoop(ln, s.done, handle, onError)
	return nil
}

// listener is a duplicate of the socket that the runtime's poller knows.
func (s *streamSocket) listener() (*net.TCPListener, error) {
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	file := os.NewFile(uintptr(fd), s.addr.String())
	defer file.Close() // FileListener makes a duplicate of its own
	ln, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// acceptPause is how long accepting pauses when the process or the kernel is
// out of something. New clients wait in the backlog meanwhile.
const acceptPause = 100 * time.Millisecond

// acceptLoop accepts until the socket is shut down. Whatever else goes wrong is
// told and tried again: a listener that gave up would be lost for good.
func acceptLoop(ln *net.TCPListener, done chan<- struct{}, handle func(*net.TCPConn), onError func(error)) {
	defer close(done)
	for {
		conn, err := ln.AcceptTCP()
		switch {
		case err == nil:
			handle(conn)
		case errors.Is(err, net.ErrClosed), errors.Is(err, unix.EINVAL): // no longer listening
			return
		default:
			onError(err)
			time.Sleep(acceptPause)
		}
	}
}

// close gives the port up.
func (s *streamSocket) close() {
	s.refuse() // whatever it says, the descriptor goes
	unix.Close(s.fd)
}

func sockaddr(addr netip.AddrPort) (family int, to unix.Sockaddr) {
	if addr.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
}
