package tcp

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Socket is a file that a poller can watch. It never blocks.
type Socket struct {
	fd        int32
	slot      int32 // at the poller
	poller    *Poller
	localPort uint16 // of a Conn, here as a connection has two of these

	watched bool   // mu is of this and what follows
	events  uint32 // that it is to be watched for
	mu      sync.Mutex
	handler Handler
}

// FD is the file. It stays the Socket's.
func (s *Socket) FD() int { return int(s.fd) }

// Poller is the one that watches the socket.
func (s *Socket) Poller() *Poller { return s.poller }

// Close gives the file up. Only the first call does.
func (s *Socket) Close() error {
	if s.fd < 0 {
		return nil
	}
	s.forget(false) // closing takes it out of epoll
	fd := s.FD()
	s.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

const reading = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET

// Watch has h called, and nobody who was called before, when there is something to read
// or the connection is over: also if that is so already.
func (s *Socket) Watch(h Handler) error { return s.watchFor(h, reading) }

// WatchWrite is Watch, and has h called also when there is room to write, or when the
// connection is made.
func (s *Socket) WatchWrite(h Handler) error { return s.watchFor(h, reading|unix.EPOLLOUT) }

func (s *Socket) watchFor(h Handler, events uint32) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
	s.events |= events
	if s.watched {
		return s.poller.change(s, s.events)
	}
	err = s.poller.add(s, s.events)
	s.watched = err == nil
	return err
}

// WantWrite has the handler called when there is room to write again, after Write has
// returned ErrWait. It may be called before Watch.
func (s *Socket) WantWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events&unix.EPOLLOUT != 0 {
		return nil // the kernel tells of room that was asked for (SOCK_NOSPACE)
	}
	s.events |= unix.EPOLLOUT
	if !s.watched {
		return nil
	}
	return s.poller.change(s, s.events)
}

// Unwatch ends the watching. A handler that is being called goes on.
func (s *Socket) Unwatch() { s.forget(true) }

func (s *Socket) forget(stays bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watched {
		s.poller.remove(s, stays)
	}
	s.watched, s.events, s.handler = false, 0, nil
}

func (s *Socket) ready(p *Poller, e Events) {
	s.mu.Lock()
	h := s.handler
	s.mu.Unlock()
	if h != nil {
		h.Ready(p, e)
	}
}
