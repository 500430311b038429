package udp

import (
	"errors"
	"net/netip"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/policyroute"
)

// Socket is one address that clients send to. It has it as long as it lives, and
// refuses datagrams unless it serves them. One goroutine uses it at a time.
type Socket struct {
	relay *Relay
	group *Group
	addr  netip.AddrPort
	// fd holds the address and sends the replies. It is connected to itself, so it
	// receives nothing: where no other socket does, the kernel refuses datagrams.
	// An IPv6 socket that was connected would stay so for what it receives, even
	// when it is connected to nobody any more.
	fd      int // -1 at the end
	current atomic.Pointer[Server]
	readers []*reader
	serving bool
	filter  func(fd int) error
}

// Listen binds an address and refuses what comes there. It fails with EADDRINUSE
// if somebody else has it. The sessions belong to group.
func (r *Relay) Listen(addr netip.AddrPort, group *Group) (*Socket, error) {
	fd, err := bind(addr, r.cfg.Mark, false)
	if err != nil {
		return nil, err
	}
	if err := connectToItself(fd, addr); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return r.newSocket(addr, fd, group, r.Readers()), nil
}

func (r *Relay) newSocket(addr netip.AddrPort, fd int, group *Group, readers int) *Socket {
	s := &Socket{relay: r, group: group, addr: addr, fd: fd, filter: func(int) error { return nil }}
	for _, l := range r.nextLoops(readers) {
		s.readers = append(s.readers, &reader{loop: l, socket: s, fd: -1, flows: map[flow]*session{}, late: map[*session]struct{}{}})
	}
	return s
}

// Addr is the bound address.
func (s *Socket) Addr() netip.AddrPort { return s.addr }

// Readers is how many files it is read from while it serves, beside its own.
func (s *Socket) Readers() int { return len(s.readers) }

func (s *Socket) is4() bool { return s.addr.Addr().Is4() }

func (s *Socket) server() Server { return *s.current.Load() }

// maxQueue is how many bytes, by the kernel's own count, may wait to be read.
const maxQueue = 1 << 20

// bind opens a socket that tells which of our addresses each datagram came to,
// and counts what it has no room for. Several may share the address, if all of
// them are bound so.
func bind(addr netip.AddrPort, mark int, shared bool) (fd int, err error) {
	family, to := sockaddr(addr)
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = prepare(fd, family, mark)
	if shared {
		err = errors.Join(err, share(fd, 1))
	}
	if err == nil {
		err = policyroute.Bind(fd, to)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// share lets others who agree have the same address.
func share(fd, value int) error {
	return os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, value))
}

// connectToItself makes a socket deaf to everybody else. An address that nothing leads to
// yet is connected to loopback, which does as well.
func connectToItself(fd int, addr netip.AddrPort) error {
	if addr.Addr().IsUnspecified() {
		return connectToLoopback(fd, addr)
	}
	_, to := sockaddr(addr)
	err := unix.Connect(fd, to)
	if err == unix.ENETUNREACH || err == unix.EHOSTUNREACH {
		return connectToLoopback(fd, addr)
	}
	return os.NewSyscallError("connect", err)
}

func connectToLoopback(fd int, addr netip.AddrPort) error {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if addr.Addr().Is6() {
		loopback = netip.IPv6Loopback()
	}
	_, to := sockaddr(netip.AddrPortFrom(loopback, addr.Port()))
	return os.NewSyscallError("connect", unix.Connect(fd, to))
}

func prepare(fd, family, mark int) error {
	set := func(level, option, value int) error {
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, value))
	}
	if set(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, maxQueue) != nil { // for the privileged
		set(unix.SOL_SOCKET, unix.SO_RCVBUF, maxQueue) // as much as net.core.rmem_max allows
	}
	errs := []error{set(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)}
	if family == unix.AF_INET6 {
		errs = append(errs, set(unix.SOL_IPV6, unix.IPV6_V6ONLY, 1), set(unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1))
	} else {
		errs = append(errs, set(unix.SOL_IP, unix.IP_PKTINFO, 1), mayFragment(fd))
	}
	if mark != 0 {
		errs = append(errs, set(unix.SOL_SOCKET, unix.SO_MARK, mark))
	}
	return errors.Join(errs...)
}

// mayFragment lets routers fragment what is sent: it was not our choice how large
// a datagram is, and the first one that is too large would be lost. IPv6 has no
// such routers.
func mayFragment(fd int) error {
	return os.NewSyscallError("setsockopt IP_MTU_DISCOVER", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT))
}

// Serve gives what comes to a server from now on. Sessions go on where it keeps
// their routes.
func (s *Socket) Serve(server Server) error {
	s.current.Store(&server)
	if s.serving {
		return nil
	}
	// Only for this moment, or somebody else could have the address too.
	err := share(s.fd, 1)
	if err == nil {
		err = s.read()
	}
	if len(s.readers) == 1 { // others need it for the kernel to tell them apart
		err = errors.Join(err, s.each(func(fd int) error { return share(fd, 0) }))
	}
	if err = errors.Join(err, share(s.fd, 0)); err != nil {
		s.Refuse()
		return err
	}
	s.serving = true
	return nil
}

// read has every reader read from a socket of its own: the kernel gives each
// client to one and the same of them.
func (s *Socket) read() error {
	for _, r := range s.readers {
		fd, err := bind(s.addr, s.relay.cfg.Mark, true)
		if err != nil {
			return err
		}
		if err = s.filter(fd); err == nil {
			r.do(func() { err = r.start(fd) })
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
	}
	return nil
}

// Refuse makes the kernel refuse what comes (ICMP port unreachable). Sessions
// stay, for replies that are on their way.
func (s *Socket) Refuse() {
	for _, r := range s.readers {
		r.do(r.stop)
	}
	s.serving = false
}

// Filter applies something to the files that are read, now and later.
func (s *Socket) Filter(apply func(fd int) error) error {
	s.filter = apply
	err := s.each(apply)
	for _, r := range s.readers {
		r.do(r.noteFilter)
	}
	return err
}

// Files are those that it has now: its own, and those that it reads from in the order of
// SocketState.Readers.
func (s *Socket) Files() (own int, readers []int) {
	s.each(func(fd int) error {
		readers = append(readers, fd)
		return nil
	})
	return s.fd, readers
}

// each applies something to the files that are read now.
func (s *Socket) each(apply func(fd int) error) error {
	var errs []error
	for _, r := range s.readers {
		r.do(func() {
			if r.fd >= 0 {
				errs = append(errs, apply(r.fd))
			}
		})
	}
	return errors.Join(errs...)
}

// Close gives the address up and ends the sessions. After Release it does nothing.
func (s *Socket) Close(reason observe.Reason) {
	s.Refuse()
	for _, r := range s.readers {
		r.do(func() { r.endAll(reason) })
	}
	unix.Close(s.fd)
	s.fd = -1
}
