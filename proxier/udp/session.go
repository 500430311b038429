package udp

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/transparent"
)

// session is one client's datagrams to one endpoint, and back: a socket that is
// connected to the endpoint. It belongs to the loop of its reader.
type session struct {
	entry
	reader  *reader
	server  Server // the last one that the route holds for
	resumed bool   // nobody has asked server yet whether it does
	got     received
	there   way // to the endpoint
	back    way
	fd      int  // -1 once it has ended
	refused bool // by the endpoint: nothing more is to be sent to it
	// awaiting says that nothing has come back since a datagram was sent at asked;
	// replied is when something last did.
	awaiting bool
	asked    time.Duration
	replied  time.Duration
	first    int // while datagrams are grouped: slot of the first one, -1: none
	last     int
	story    Session
	// replay is the only datagram that was sent, as long as nothing has come back:
	// if the endpoint refuses it another one may have it.
	replay []byte
}

const (
	// maxReplay is the largest datagram that is kept for another endpoint.
	maxReplay = 2048
	// maxTries is how many endpoints a datagram is offered to at most.
	maxTries = 3
)

// usable says whether a session may go on: its endpoint has not refused it, and
// may still be used.
func (s *session) usable(server Server) bool {
	if s.othersRefused() {
		s.noteRefused()
	}
	if s.refused {
		return false
	}
	if s.server != server || s.resumed {
		if !server.Keeps(s.story.Route) {
			return false
		}
		s.server, s.resumed = server, false
	}
	return true
}

// othersRefused says whether other sessions were told that the endpoint has refused what
// this one has sent.
func (s *session) othersRefused() bool {
	return s.awaiting && s.reader.refusals.after(s.story.Route.To, s.replied)
}

// open begins a session. before is the one that the client had until now, if
// any. It returns nil, having counted one datagram as dropped, if there is no
// endpoint to be had.
func (r *reader) open(server Server, got received, before *session, anew bool, now time.Duration) *session {
	is4 := r.socket.is4()
	client, local := got.clientAddr(is4), netip.AddrPortFrom(got.localAddr(is4), r.socket.addr.Port())
	tried := r.replace(before, now)
	avoided := r.refusals.recent(now)
	for range maxTries {
		route, err := server.Route(client, local, append(avoided, tried...))
		if isNoEndpoint(err) && len(avoided) > 0 { // all have refused somebody: perhaps one has come back
			avoided = nil
			route, err = server.Route(client, local, tried)
		}
		if isNoEndpoint(err) && len(tried) > 0 {
			if !anew {
				server.Dropped(observe.DropRefused, 1)
				return nil
			}
			tried = nil
			route, err = server.Route(client, local, nil)
		}
		if err != nil {
			server.Dropped(causeOf(err), 1)
			return nil
		}
		s := &session{reader: r, server: server, got: got, back: replyTo(got, is4), first: -1, fd: -1, replied: now, story: Session{
			Client: client, Local: local, Route: route, Tried: tried, Start: time.Now(), FirstReply: -1,
		}}
		s.entry.session = s
		if err = s.connect(now); err == nil {
			r.flows[got.flow] = s
			server.Opened()
			return s
		}
		if route.Unused != nil {
			route.Unused(err)
		}
		if !isUnreachable(err) {
			server.Dropped(causeOf(err), 1)
			return nil
		}
		tried = append(slices.Clone(tried), route.To)
	}
	server.Dropped(observe.DropRefused, 1)
	return nil
}

// replace ends what the client had, and returns the endpoints that have refused
// it. One whose endpoint is not to be used any more stays for its last replies.
func (r *reader) replace(before *session, now time.Duration) (tried []netip.AddrPort) {
	switch {
	case before == nil:
		return nil
	case before.refused:
		tried = append(slices.Clone(before.story.Tried), before.story.Route.To)
		r.table.remove(&before.entry)
		before.end(observe.BackendRefused, unix.ECONNREFUSED)
		return tried
	}
	delete(r.flows, before.got.flow)
	r.late[before] = struct{}{}
	r.table.move(&before.entry, left, now)
	return nil
}

// connect makes room for the session and opens its socket.
func (s *session) connect(now time.Duration) error {
	for _, e := range s.reader.socket.group.add(&s.entry, s.story.Client.Addr(), now) {
		e.session.evict(s.reader.loop)
	}
	err := s.dial()
	if err != nil {
		s.reader.table.remove(&s.entry)
	}
	return err
}

func (s *session) dial() error {
	family, to := sockaddr(s.story.Route.To)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	err = s.prepare(fd)
	if err == nil {
		err = os.NewSyscallError("connect", connect(fd, to))
	}
	if err == nil {
		err = s.reader.watch(fd, s)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	s.fd = fd
	return nil
}

// connect is connect(2). A UDP socket has nothing to wait for: EAGAIN says that no
// local port is left.
func connect(fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	if err == unix.EAGAIN {
		return unix.EADDRNOTAVAIL
	}
	return err
}

// prepare sets what a socket needs before it is connected.
func (s *session) prepare(fd int) error {
	if s.reader.socket.is4() {
		if err := mayFragment(fd); err != nil {
			return err
		}
	}
	if mark := s.reader.mark; mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
			return os.NewSyscallError("setsockopt SO_MARK", err)
		}
	}
	from := s.story.Route.From
	if !from.IsValid() {
		return nil
	}
	if err := transparent.Prepare(uintptr(fd)); err != nil {
		return err
	}
	_, address := sockaddr(netip.AddrPortFrom(from, 0))
	return os.NewSyscallError("bind", unix.Bind(fd, address))
}

// isUnreachable tells an error that another endpoint may not have.
func isUnreachable(err error) bool {
	reason := observe.ReasonOf(err)
	return reason == observe.BackendRefused || reason == observe.BackendUnreachable
}

// causeOf says why a datagram was dropped.
func causeOf(err error) observe.DropCause {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal.Cause
	case errors.Is(err, unix.EMSGSIZE):
		return observe.DropTooBig
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS):
		return observe.DropQueue
	}
	switch observe.ReasonOf(err) {
	case observe.OutOfFiles, observe.OutOfMemory, observe.OutOfPorts:
		return observe.DropResources
	case observe.BackendRefused, observe.BackendUnreachable:
		return observe.DropRefused
	}
	return observe.DropError
}

// evict ends a session that another one needs the room of. by is the loop that
// asks.
func (s *session) evict(by *loop) {
	if s.reader.loop == by {
		s.end(observe.Evicted, nil)
		return
	}
	s.reader.post(func() { s.end(observe.Evicted, nil) })
}

// expire ends a session whose time is over.
func (s *session) expire() {
	switch {
	case s.refused:
		s.end(observe.BackendRefused, unix.ECONNREFUSED)
	case s.reader.flows[s.got.flow] != s:
		s.end(observe.EndpointRemoved, nil)
	default:
		s.end(observe.Idle, nil)
	}
}

// end closes a session that is in the table no more, and tells its story. A
// second time it does nothing.
func (s *session) end(reason observe.Reason, err error) {
	if s.fd < 0 {
		return
	}
	s.reader.out.flush() // some may be its own
	s.story.LocalPort = localPort(s.fd)
	s.reader.forget(s.fd)
	s.fd = -1
	if s.reader.flows[s.got.flow] == s {
		delete(s.reader.flows, s.got.flow)
	}
	delete(s.reader.late, s)
	s.replay = nil
	s.story.Reason, s.story.Err = reason, err
	s.server.Closed(s.story)
}

// waits says whether its client may still get a reply to what it has sent
// within patience.
func (s *session) waits(patience time.Duration) bool {
	return s.awaiting && s.reader.table.now()-s.asked < patience
}

// sent notes that the client awaits a reply.
func (s *session) sent(now time.Duration) {
	if !s.awaiting {
		s.awaiting, s.asked = true, now
	}
}

func localPort(fd int) uint16 {
	switch a, _ := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	return 0
}
