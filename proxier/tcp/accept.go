package tcp

import (
	"errors"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Listener is a socket that may listen. All pollers watch it, and the first that has time
// for a client accepts it.
type Listener struct {
	fd int

	mu      sync.Mutex
	sockets []*Socket // one for each poller, while it is watched
}

// NewListener makes a listener of a socket that does not block, and owns it.
func NewListener(fd int) *Listener { return &Listener{fd: fd} }

// FD is the socket. It stays the Listener's.
func (l *Listener) FD() int { return l.fd }

// Watch has h called as long as clients wait to be accepted.
func (l *Listener) Watch(all *Pollers, h Handler) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range all.all {
		s := &Socket{fd: int32(l.fd), poller: p, handler: h, watched: true}
		if err = p.add(s, unix.EPOLLIN|unix.EPOLLEXCLUSIVE); err != nil {
			break
		}
		l.sockets = append(l.sockets, s)
	}
	if err != nil {
		l.unwatch()
	}
	return err
}

// Unwatch ends the watching. A handler that is being called goes on.
func (l *Listener) Unwatch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unwatch()
}

func (l *Listener) unwatch() {
	for _, s := range l.sockets {
		s.Unwatch()
	}
	l.sockets = nil
}

// Close gives the file up. Only the first call does.
func (l *Listener) Close() error {
	if l.fd < 0 {
		return nil
	}
	l.Unwatch()
	fd := l.fd
	l.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// Accept accepts the next connection, for a poller, and says who the peer is. Without one
// the error is ErrWait.
func (l *Listener) Accept(p *Poller) (*Conn, netip.AddrPort, error) {
	for {
		fd, peer, err := accept(l.fd)
		switch {
		case err == nil:
			return New(fd, p), peer, nil
		case err == unix.EAGAIN:
			return nil, netip.AddrPort{}, ErrWait
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED): // it was reset while it waited
			return nil, netip.AddrPort{}, os.NewSyscallError("accept4", err)
		}
	}
}
