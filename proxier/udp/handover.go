package udp

import (
	"errors"
	"iter"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// SocketState is a Socket that was released: plain data beside its files and routes, for
// encoding/json as well. Files are numbers of this process; who takes them to another one
// writes theirs.
type SocketState struct {
	Addr netip.AddrPort
	FD   int // holds the address, sends the replies
	// Released is when it was. It loses what Go's monotonic clock adds to it.
	Released time.Time
	Readers  []ReaderState // in their order; empty: it refuses
	Sessions []SessionState
}

// Files are all that are open.
func (s *SocketState) Files() (list []int) {
	add := func(fd int) {
		if fd >= 0 {
			list = append(list, fd)
		}
	}
	add(s.FD)
	for i := range s.Readers {
		add(s.Readers[i].FD)
	}
	for i := range s.Sessions {
		add(s.Sessions[i].FD)
	}
	return list
}

// ReaderState is a file that datagrams of clients wait in.
type ReaderState struct {
	FD       int
	Overflow uint32 // datagrams that the kernel had no room for, as far as they were told
}

// SessionState is a session that goes on. Its durations are from then until the Socket
// was released.
type SessionState struct {
	// Session is its story so far, yet without LocalPort. Of and Unused of its Route are as
	// the Server has made them, and no plain data: Of is for the Server to encode, Unused
	// has had its time.
	Session
	FD int
	// Reader is the number of the reader that its client's datagrams come to. A Socket that
	// refuses has as many as it had when it served.
	Reader int
	Scope  uint32 // interface of a link-local client
	Device uint32 // interface that the client's first datagram came in by
	// Left: its client has another session, and it only waits for late replies.
	Left    bool
	Refused bool          // by the endpoint: nothing more is to be sent to it
	Idle    time.Duration // since its last datagram, in either direction
	Replied time.Duration // since its last reply, or since it began
	// Awaiting: nothing has come back since a datagram was sent, Asked ago.
	Awaiting bool
	Asked    time.Duration
	// Replay is the client's only datagram, as long as nothing has come back: up to 2048
	// bytes. If the endpoint refuses it another one may have it.
	Replay []byte
}

// ErrReleased is why a Socket is not released that was released before, or closed.
var ErrReleased = errors.New("the UDP socket was released or closed")

// Release stops reading and leaves all files open, watched by nobody: Resume goes on with
// them, in this process or in another one. What waits in the kernel stays there, and what
// was read has been passed on. The Server hears nothing more. The Socket is of no use
// afterwards; Group and Table count its sessions no more. It fails with ErrReleased only.
func (s *Socket) Release() (SocketState, error) {
	if s.fd < 0 {
		return SocketState{}, ErrReleased
	}
	state := SocketState{Addr: s.addr, FD: s.fd, Released: time.Now().Round(0)}
	now := s.relay.table.now()
	parts := make([]SocketState, len(s.readers))
	s.atOnce(func(number int, r *reader) { r.release(&parts[number], number, now) })
	for i := range parts {
		state.Readers = append(state.Readers, parts[i].Readers...)
		state.Sessions = append(state.Sessions, parts[i].Sessions...)
	}
	s.fd, s.serving = -1, false
	return state, nil
}

// atOnce has all readers do something at the same time.
func (s *Socket) atOnce(task func(number int, r *reader)) {
	var all sync.WaitGroup
	for number, r := range s.readers {
		all.Go(func() { r.do(func() { task(number, r) }) })
	}
	all.Wait()
}

// release gives all files away.
func (r *reader) release(to *SocketState, number int, now time.Duration) {
	r.out.flush() // which may have some of its sessions
	if r.fd >= 0 {
		r.unwatch(r.fd)
		to.Readers = append(to.Readers, ReaderState{FD: r.fd, Overflow: r.overflow})
		r.fd = -1
	}
	to.Sessions = make([]SessionState, 0, len(r.flows)+len(r.late))
	for s := range r.sessions() {
		to.Sessions = append(to.Sessions, s.release(number, now))
	}
	r.flows, r.late = nil, nil
}

// sessions are all that have not ended.
func (r *reader) sessions() iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for _, s := range r.flows {
			if !yield(s) {
				return
			}
		}
		for s := range r.late {
			if !yield(s) {
				return
			}
		}
	}
}

// release gives the session's file away. One that the Table has just handed out to be
// ended goes on: its end comes later.
func (s *session) release(reader int, now time.Duration) SessionState {
	table := s.reader.table
	table.remove(&s.entry)
	s.reader.unwatch(s.fd)
	state := SessionState{
		Session: s.story, FD: s.fd, Reader: reader, Scope: s.got.scope, Device: s.got.device,
		Left: s.class == left, Refused: s.refused || s.othersRefused(),
		Idle: max(0, now-time.Duration(s.used.Load())), Replied: max(0, now-s.replied),
		Awaiting: s.awaiting, Replay: s.replay,
	}
	if s.awaiting {
		state.Asked = max(0, now-s.asked)
	}
	s.fd = -1 // whoever still wants to end it does nothing
	return state
}

// close closes all files.
func (s *SocketState) close() {
	unix.Close(s.FD)
	for i := range s.Readers {
		unix.Close(s.Readers[i].FD)
	}
	for i := range s.Sessions {
		unix.Close(s.Sessions[i].FD)
	}
}
