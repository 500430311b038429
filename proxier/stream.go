package proxier

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/policyroute"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// streamSocket is one bound TCP socket. It keeps its port, and its one file, whatever
// its answer is; only pollers that accept run beside the reconcile loop.
type streamSocket struct {
	addr  netip.AddrPort
	ln    *tcp.Listener
	fd    int // of ln
	now   answer
	peers tcp.Liveness // of the clients
	// cookie is the file's, 0 before it was asked for.
	cookie uint64
	shift  *shift // nil unless it listens
}

// openStream binds addr, and refuses connections. It fails with EADDRINUSE if
// somebody else listens there.
func openStream(addr netip.AddrPort) (*streamSocket, error) {
	fd, err := tcp.Open(addr.Addr())
	if err != nil {
		return nil, err
	}
	s := &streamSocket{addr: addr, ln: tcp.NewListener(fd), fd: fd}
	if err = s.bind(); err == nil {
		err = s.refuse()
	}
	if err != nil {
		s.ln.Close()
		return nil, err
	}
	return s, nil
}

// adoptStream goes on with a socket that another process has had; listens says that clients
// may wait there.
func adoptStream(fd int, addr netip.AddrPort, listens bool) *streamSocket {
	return &streamSocket{addr: addr, ln: tcp.NewListener(fd), fd: fd, now: answer{listen: listens, limited: true}}
}

// rest accepts nobody until goOn: who comes waits.
func (s *streamSocket) rest() {
	if s.shift != nil {
		s.shift.end()
	}
}

func (s *streamSocket) goOn() error {
	if s.shift == nil {
		return nil
	}
	s.shift = &shift{listener: s.ln, pollers: s.shift.pollers, welcome: s.shift.welcome, onError: s.shift.onError}
	return s.shift.begin()
}

// bind listens for a moment: only listen(2) finds out whether somebody else does.
func (s *streamSocket) bind() error {
	denied := policyroute.AllowForeign(s.fd, s.addr.Addr())
	err := errors.Join(spare(s.fd), tcp.NoDelay(s.fd), setReuse(s.fd, true))
	if err == nil && s.addr.Addr().Is6() { // nothing of IPv4
		err = os.NewSyscallError("setsockopt IPV6_V6ONLY", unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(s.fd, tcp.Sockaddr(s.addr)))
	}
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(s.fd, 1))
	}
	return policyroute.Explain(err, denied)
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
		s.shift.end()
		s.shift = nil
	}
	s.now.listen = false
	if err := unix.Shutdown(s.fd, unix.SHUT_RD); err != nil {
		return os.NewSyscallError("shutdown", err)
	}
	return errors.Join(setReuse(s.fd, false), s.filter(refusing))
}

// give makes want the answer from now on. Clients are welcomed by the pollers; onError is
// told why they cannot be accepted for the moment.
func (s *streamSocket) give(want answer, pollers *tcp.Pollers, hello welcome, onError func(error)) (err error) {
	if s.now.equal(want) {
		return nil
	}
	switch {
	case !want.listen:
		err = s.refuse()
	case s.shift != nil:
		err = s.filter(want)
	default:
		err = errors.Join(s.filter(want), s.serve(pollers, hello, onError))
	}
	if err == nil {
		s.now = want
	}
	return err
}

// probe says when clients are gone that are accepted from now on: they have it from the
// socket, and take no system call for it.
func (s *streamSocket) probe(peers tcp.Liveness) error {
	if s.peers == peers {
		return nil
	}
	err := peers.Set(s.fd)
	if err == nil {
		s.peers = peers
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

// serve listens, and welcomes every client.
func (s *streamSocket) serve(pollers *tcp.Pollers, hello welcome, onError func(error)) error {
	if err := setReuse(s.fd, true); err != nil {
		return err
	}
	if err := listenAgain(s.fd); err != nil {
		return fmt.Errorf("listen on %s: %w", s.addr, os.NewSyscallError("listen", err))
	}
	s.shift = &shift{listener: s.ln, pollers: pollers, welcome: hello, onError: onError}
	if err := s.shift.begin(); err != nil {
		return errors.Join(err, s.refuse())
	}
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

// close gives the port up. Who keeps the socket too is not to keep others from the port.
func (s *streamSocket) close() {
	s.refuse() // whatever it says, the descriptor goes
	setReuse(s.fd, true)
	s.ln.Close()
}
