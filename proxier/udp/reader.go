package udp

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// reader is one file of a Socket, in the loop that reads it. It belongs to that
// loop.
type reader struct {
	*loop
	socket *Socket
	fd     int // -1 while nothing is read
	flows  map[flow]*session
	late   map[*session]struct{} // that only wait for late replies

	overflow uint32        // datagrams that the kernel had no room for, so far
	shed     time.Duration // until then newcomers have to stand back
	hides    bool          // a filter keeps some away

	load      load
	newcomers []int // slots of the batch

	passed, passedBytes int // to endpoints, of this batch
}

// load groups the datagrams of a batch by session, in order.
type load struct {
	sessions []*session
	next     [batchSize]int // slot of the same session's next datagram, -1: none
	slots    [batchSize]int // what take returns
}

// readable moves what waits in the socket to the endpoints, a batch at a time:
// others get their turn in between. Clients that are known go first.
func (r *reader) readable(now time.Duration) {
	n, err := r.in.receive(r.fd, 0, batchSize, true)
	if err != nil {
		return // nothing waits; other errors are none of a socket that is not connected
	}
	server := r.socket.server()
	r.newcomers = r.newcomers[:0]
	r.passed, r.passedBytes = 0, 0
	for i := range n {
		got := r.in.received(i)
		r.noteOverflow(server, got.overflow, now)
		if s := r.flows[got.flow]; s != nil && s.usable(server) {
			r.load.add(s, i)
		} else {
			r.newcomers = append(r.newcomers, i)
		}
	}
	r.deliver(now)
	if n == batchSize && r.socket.group.full() && isHalfFull(r.fd) {
		r.shed = now + shedTime
	}
	r.admit(server, now)
	r.deliver(now)
	server.Datagrams(r.passed, r.passedBytes, 0, 0)
}

func (l *load) add(s *session, slot int) {
	l.next[slot] = -1
	if s.first < 0 {
		s.first = slot
		l.sessions = append(l.sessions, s)
	} else {
		l.next[s.last] = slot
	}
	s.last = slot
}

// take returns the slots of a session's datagrams, until it is called again.
func (l *load) take(s *session) []int {
	n := 0
	for i := s.first; i >= 0; i = l.next[i] {
		l.slots[n] = i
		n++
	}
	s.first = -1
	return l.slots[:n]
}

// deliver sends what is grouped to the endpoints.
func (r *reader) deliver(now time.Duration) {
	for _, s := range r.load.sessions {
		r.send(s, r.load.take(s), now)
	}
	clear(r.load.sessions)
	r.load.sessions = r.load.sessions[:0]
}

const (
	shedTime = 100 * time.Millisecond // how long an overflow, or one that is near, makes us careful
	shedMost = 4                      // newcomers in a batch that are admitted all the same
)

// admit opens sessions for the newcomers of a batch. While the kernel has no
// room for all that comes, few of them: who is known is not to lose anything by
// a flood of others. Where each newcomer costs somebody else the session, that
// begins before the kernel loses the first datagram.
func (r *reader) admit(server Server, now time.Duration) {
	opened := 0
	for _, i := range r.newcomers {
		got := r.in.received(i)
		s := r.flows[got.flow]
		if s == nil || !s.usable(server) { // it may have been opened just now
			if now < r.shed && opened >= shedMost {
				server.Dropped(observe.DropSessionLimit, 1)
				continue
			}
			if s = r.open(server, got, s, true, now); s == nil {
				continue
			}
			opened++
		}
		r.load.add(s, i)
	}
}

// noteOverflow follows the kernel's count of what it had no room for. That has
// what a filter hides, too, so while there is one it says nothing.
func (r *reader) noteOverflow(server Server, count uint32, now time.Duration) {
	lost := int32(count - r.overflow)
	if lost <= 0 { // it is not told before it happens
		return
	}
	r.overflow = count
	if !r.hides {
		server.Dropped(observe.DropQueue, int(lost))
		r.shed = now + shedTime
	}
}

// noteFilter finds out whether a filter hides anything from now on.
func (r *reader) noteFilter() {
	if r.fd < 0 {
		return
	}
	r.hides = hasFilter(r.fd)
	r.overflow = memory(r.fd)[lostDatagrams]
}

// hasFilter tells whether a socket has a filter: SO_GET_FILTER with room for none
// returns how long it is.
func hasFilter(fd int) bool {
	var length uint32
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER, 0, uintptr(unsafe.Pointer(&length)), 0)
	return errno != 0 || length > 0
}

// Of what memory returns: the bytes that wait, how many may, and how many
// datagrams were lost so far.
const (
	bytesWaiting  = 0
	bytesAllowed  = 1
	lostDatagrams = 8
)

// memory is what the kernel tells of a socket's queues (SO_MEMINFO).
func memory(fd int) (sizes [9]uint32) {
	length := uint32(unsafe.Sizeof(sizes))
	unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&sizes)), uintptr(unsafe.Pointer(&length)), 0)
	return sizes // without SO_MEMINFO: zeroes
}

// isHalfFull tells whether half of what a socket has room for waits to be read.
func isHalfFull(fd int) bool {
	sizes := memory(fd)
	return sizes[bytesWaiting] > sizes[bytesAllowed]/2
}

// start reads a file from now on. It is the reader's to close unless this fails.
func (r *reader) start(fd int) error {
	if err := r.watch(fd, r); err != nil {
		return err
	}
	r.fd, r.overflow, r.hides = fd, 0, hasFilter(fd)
	return nil
}

// stop reads no more. What still waits came when nobody was there for it any more.
func (r *reader) stop() {
	if r.fd < 0 {
		return
	}
	for range maxQueue / batchSize { // no more fits in
		n, err := r.in.receive(r.fd, 0, batchSize, false)
		if err != nil {
			break
		}
		r.socket.server().Dropped(observe.DropNoEndpoint, n)
	}
	r.forget(r.fd)
	r.fd = -1
}

// endAll ends all sessions, also those that only wait for late replies.
func (r *reader) endAll(reason observe.Reason) {
	for s := range r.sessions() {
		r.table.remove(&s.entry)
		s.end(reason, nil)
	}
}
