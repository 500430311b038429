package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Resume goes on where Release has ended: with the same files, which it owns from now on,
// also if it fails: then they are closed. server is the one that serves. It is told no
// Opened of the sessions, which their first process has counted. Before a session's next
// datagram it is asked whether it Keeps the Route, with what Of is in the state. Group and
// Table count the sessions, and evict none for them.
//
// A Socket that serves keeps the files it has, as each of them has the datagrams of some
// clients, whatever Config.Readers says.
func (r *Relay) Resume(state SocketState, group *Group, server Server) (*Socket, error) {
	readers := len(state.Readers)
	if readers == 0 {
		readers = r.Readers()
	}
	s := r.newSocket(state.Addr, state.FD, group, readers)
	s.current.Store(&server)
	s.serving = len(state.Readers) > 0
	err := state.check()
	if err == nil {
		err = s.resume(&state)
	}
	if err != nil {
		s.Release()
		state.close()
		return nil, fmt.Errorf("cannot resume the UDP socket at %s: %w", state.Addr, err)
	}
	return s, nil
}

// Adopt is Listen with a file that was received and holds the address already: that of a
// Socket which was released. Nothing else of it goes on. The file is the Socket's from now
// on; if Adopt fails it is closed.
func (r *Relay) Adopt(addr netip.AddrPort, fd int, group *Group) (*Socket, error) {
	if err := checkBound(fd, addr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot adopt the UDP socket at %s: %w", addr, err)
	}
	return r.newSocket(addr, fd, group, r.Readers()), nil
}

// check finds what no Release returns.
func (s *SocketState) check() error {
	if err := checkBound(s.FD, s.Addr); err != nil {
		return err
	}
	for i := range s.Readers {
		if err := checkBound(s.Readers[i].FD, s.Addr); err != nil {
			return fmt.Errorf("reader %d: %w", i, err)
		}
	}
	for i := range s.Sessions {
		if err := s.Sessions[i].check(s); err != nil {
			return fmt.Errorf("the session of %s: %w", s.Sessions[i].Client, err)
		}
	}
	return nil
}

func (s *SessionState) check(of *SocketState) error {
	is4 := of.Addr.Addr().Is4()
	for _, a := range []netip.AddrPort{s.Client, s.Local, s.Route.To} {
		if !a.IsValid() || a.Addr().Is4() != is4 {
			return fmt.Errorf("%s and %s cannot be of one session", of.Addr, a)
		}
	}
	switch {
	case s.Reader < 0, len(of.Readers) > 0 && s.Reader >= len(of.Readers):
		return fmt.Errorf("it has reader %d of %d", s.Reader, len(of.Readers))
	case len(s.Replay) > maxReplay:
		return fmt.Errorf("%d bytes are kept of it, at most %d may be", len(s.Replay), maxReplay)
	}
	return nil
}

// checkBound says whether a file is bound to an address. One that is bound to all and
// connected to loopback (connectToItself) is now at loopback, as far as the kernel tells.
func checkBound(fd int, addr netip.AddrPort) error {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("file %d: %w", fd, os.NewSyscallError("getsockname", err))
	}
	var bound netip.AddrPort
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		bound = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		bound = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	connected := addr.Addr().IsUnspecified() && bound.Addr().IsLoopback() && bound.Port() == addr.Port() && bound.Addr().Is4() == addr.Addr().Is4()
	if bound != addr && !connected {
		return fmt.Errorf("file %d is bound to %s", fd, bound)
	}
	return nil
}

// resume has each reader go on with its file and its clients.
func (s *Socket) resume(state *SocketState) error {
	then := s.relay.table.now() - max(0, time.Since(state.Released))
	of := make([][]*SessionState, len(s.readers))
	for i := range state.Sessions {
		reader := state.Sessions[i].Reader % len(of) // which is another one where there are fewer than before
		of[reader] = append(of[reader], &state.Sessions[i])
	}
	errs := make([]error, len(s.readers))
	s.atOnce(func(i int, r *reader) {
		if errs[i] = r.resume(of[i], then); errs[i] == nil && s.serving {
			errs[i] = r.start(state.Readers[i].FD)
			r.overflow = state.Readers[i].Overflow
		}
	})
	return errors.Join(errs...)
}

func (r *reader) resume(sessions []*SessionState, then time.Duration) error {
	r.flows = make(map[flow]*session, len(sessions))
	for _, s := range sessions {
		if err := r.resumeSession(s, then); err != nil {
			return fmt.Errorf("the session of %s: %w", s.Client, err)
		}
	}
	return nil
}

// resumeSession goes on with a session. then is when it was released.
func (r *reader) resumeSession(state *SessionState, then time.Duration) error {
	is4 := r.socket.is4()
	got := received{flow: flowOf(state.Client, state.Local.Addr(), state.Scope), device: state.Device}
	if !state.Left && r.flows[got.flow] != nil {
		return errors.New("there are two of it")
	}
	s := &session{
		reader: r, server: r.socket.server(), resumed: true, got: got, back: replyTo(got, is4),
		fd: state.FD, refused: state.Refused, awaiting: state.Awaiting, asked: then - state.Asked, replied: then - state.Replied,
		first: -1, story: state.Session, replay: state.Replay,
	}
	s.entry.session = s
	if err := r.watch(s.fd, s); err != nil {
		return err
	}
	if state.Left {
		s.class = left
		r.late[s] = struct{}{}
	} else {
		s.class = known // until classified
		s.class = s.classify()
		r.flows[got.flow] = s
	}
	r.socket.group.resume(&s.entry, state.Client.Addr(), then-state.Idle)
	return nil
}
