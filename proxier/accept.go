package proxier

import (
	"net/netip"
	"sync"
	"time"

	"github.com/usher-proxy/usher/proxier/tcp"
)

const (
	// acceptPause is how long accepting pauses when the process or the kernel is out of
	// something. New clients wait in the backlog meanwhile.
	acceptPause = 100 * time.Millisecond
	// acceptsAtOnce is how many clients a poller accepts before it sees to connections.
	acceptsAtOnce = 16
)

// welcome counts a client that was accepted. It must not block.
type welcome func(client *tcp.Conn, peer netip.AddrPort) guest

// guest is a client that was accepted. A poller serves it up to where it would have to
// wait; polls says that the poller was not handed over for that.
type guest interface {
	serve(by *tcp.Poller) (polls bool)
}

// shift is the time in which a socket listens.
type shift struct {
	listener *tcp.Listener
	pollers  *tcp.Pollers
	welcome  welcome
	onError  func(error)

	mu    sync.RWMutex // held while somebody accepts
	ended bool
	pause *time.Timer // after which it accepts again, nil if it does
}

// begin has pollers accept, until end.
func (s *shift) begin() error { return s.listener.Watch(s.pollers, s) }

// end is called before the socket stops to listen. When it returns nobody accepts any more,
// and all that were accepted are counted.
func (s *shift) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.pause != nil {
		s.pause.Stop()
	}
	s.listener.Unwatch()
}

// Ready is called while clients wait to be accepted.
func (s *shift) Ready(p *tcp.Poller, _ tcp.Events) {
	for range acceptsAtOnce {
		guest, err := s.accept(p)
		if err != nil {
			s.failed(err)
			return
		}
		if guest == nil || !guest.serve(p) {
			return
		}
	}
}

// accept returns nil if there is nobody.
func (s *shift) accept(by *tcp.Poller) (guest, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.ended {
		return nil, nil
	}
	client, peer, err := s.listener.Accept(s.pollers.For(by))
	switch err {
	case nil:
		return s.welcome(client, peer), nil
	case tcp.ErrWait:
		return nil, nil
	}
	return nil, err
}

// failed is called when a client cannot be accepted. Whatever the fault is, it is told and
// tried again: a listener that gave up would be lost for good.
func (s *shift) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.pause != nil {
		return
	}
	s.listener.Unwatch()
	s.pause = time.AfterFunc(acceptPause, func() { s.resume(err) })
}

func (s *shift) resume(failed error) {
	s.onError(failed) // which may take its time: a poller has none
	s.mu.Lock()
	s.pause = nil
	ended := s.ended
	if !ended {
		failed = s.begin()
	}
	s.mu.Unlock()
	if !ended && failed != nil {
		s.failed(failed)
	}
}
