package proxier

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// acceptPause is how long accepting pauses when the process or the kernel is out of
	// something. New clients wait in the backlog meanwhile.
	acceptPause = 100 * time.Millisecond
	// acceptQuiet is how long a socket has to be without new clients until its goroutine
	// ends.
	acceptQuiet = time.Second
)

// shift is the time in which a socket listens. Of thousands of sockets few have new
// clients at a time, and only these have a goroutine that accepts.
type shift struct {
	ln      *net.TCPListener
	fd      int // of ln
	number  int32
	handle  func(*net.TCPConn)
	onError func(error)
	over    chan struct{}
	busy    sync.WaitGroup // the goroutine; the lookout starts it under its lock
}

// end ends a shift that the lookout has forgotten and whose socket does not listen any
// more, and waits for its goroutine. That may not notice by itself: out of files,
// accept(2) says nothing else.
func (s *shift) end() {
	close(s.over)
	s.busy.Wait()
}

// accept accepts until no more clients come.
func (s *shift) accept() {
	defer s.busy.Done()
	for s.acceptSome() {
	}
	lookout.resume(s)
}

// acceptSome accepts until the end of a time, and says whether there were any.
// Whatever goes wrong is told and tried again: a listener that gave up would be lost
// for good.
func (s *shift) acceptSome() (any bool) {
	s.ln.SetDeadline(time.Now().Add(acceptQuiet)) // for many: it costs more than a call of accept
	for {
		conn, err := s.ln.AcceptTCP()
		switch {
		case err == nil:
			s.handle(conn)
			any = true
		case errors.Is(err, os.ErrDeadlineExceeded):
			return any
		case errors.Is(err, unix.EINVAL): // no longer listening
			return false
		default:
			s.onError(err)
			any = true // somebody waits
			select {
			case <-s.over:
				return false
			case <-time.After(acceptPause):
			}
		}
	}
}

// lookout waits for the clients of all sockets that listen. One does for the whole
// process, as one poller does in the runtime. It takes a file and a goroutine while
// there are such sockets.
var lookout = &lookouts{}

type lookouts struct {
	mu      sync.Mutex
	epoll   *os.File // nil while there are no shifts
	fd      int      // of epoll
	shifts  map[int32]*shift
	numbers int32
}

// watch looks out for clients of a socket, until forget.
func (l *lookouts) watch(s *shift) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.open(); err != nil {
		return err
	}
	for l.numbers++; l.shifts[l.numbers] != nil; l.numbers++ {
	}
	s.number = l.numbers
	l.shifts[s.number] = s
	if err := l.control(unix.EPOLL_CTL_ADD, s); err != nil {
		l.remove(s)
		return err
	}
	return nil
}

// resume looks out again, after the goroutine that was called has found the socket
// quiet. Clients that came meanwhile are seen.
func (l *lookouts) resume(s *shift) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shifts[s.number] == s {
		if err := l.control(unix.EPOLL_CTL_MOD, s); err != nil {
			s.onError(err)
			l.call(s) // it is not to be lost
		}
	}
}

// forget looks out no more. No goroutine begins after it.
func (l *lookouts) forget(s *shift) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shifts[s.number] == s {
		l.control(unix.EPOLL_CTL_DEL, s)
		l.remove(s)
	}
}

func (l *lookouts) remove(s *shift) {
	if delete(l.shifts, s.number); len(l.shifts) == 0 {
		l.epoll.Close() // which ends the goroutine
		l.epoll = nil
	}
}

// control tells epoll of a socket. It is to tell of its next client once: a goroutine
// sees to the others.
func (l *lookouts) control(what int, s *shift) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: s.number}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.fd, what, s.fd, &event))
}

// call has a goroutine accept. The caller holds the lock.
func (l *lookouts) call(s *shift) {
	s.busy.Add(1)
	go s.accept()
}

// open starts to look out, if need be.
func (l *lookouts) open() error {
	if l.epoll != nil {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the runtime would not poll it
		unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	l.epoll, l.fd, l.shifts = os.NewFile(uintptr(fd), "epoll"), fd, map[int32]*shift{}
	go l.run(l.epoll)
	return nil
}

// run calls for the sockets that clients have come to, until epoll is closed.
func (l *lookouts) run(epoll *os.File) {
	raw, err := epoll.SyscallConn()
	if err != nil {
		return // it has been closed
	}
	events, n := make([]unix.EpollEvent, 64), 0
	for raw.Read(func(fd uintptr) bool {
		n, _ = unix.EpollWait(int(fd), events, 0)
		return n != 0
	}) == nil {
		l.mu.Lock()
		for _, e := range events[:max(n, 0)] {
			// The number of a shift that is over means nobody.
			if s := l.shifts[e.Fd]; s != nil && l.epoll == epoll {
				l.call(s)
			}
		}
		l.mu.Unlock()
	}
}
