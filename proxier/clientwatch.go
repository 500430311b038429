package proxier

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// phase is the context of something that a connection may have to wait for: its turn, or
// an endpoint. Most never wait. Who does asks for the end of the phase first. Then the
// poller is handed over, and from now on somebody looks whether the client is still there:
// its place is for another one. A FIN alone is no sign that it is not, the client may still
// want its answer.
type phase struct {
	connection *connection

	mu    sync.Mutex
	done  chan struct{} // nil while nobody has asked
	ended bool
	over  bool // the client's connection is
	gone  bool // it was ended by a departure
}

// depart ends the phase for a departure.
func (p *phase) depart() {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	p.end()
}

func (p *phase) hasDeparted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// Done is called by who is about to wait, and is counted by then.
func (p *phase) Done() <-chan struct{} {
	c := p.connection
	if c.poller != nil {
		c.poller.HandOver()
		c.poller = nil
	}
	done := p.asked()
	if err := c.client.Watch(p); err != nil {
		c.log.WithError(err).Error("cannot watch a client that waits")
	}
	return done
}

func (p *phase) asked() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done = make(chan struct{})
		if p.ended {
			close(p.done)
		}
	}
	return p.done
}

// Err is context.Canceled once the phase has ended before its time.
func (p *phase) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return context.Canceled
	}
	return nil
}

// Deadline says that there is none.
func (*phase) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value says that there are none.
func (*phase) Value(any) any { return nil }

// end ends the phase before its time.
func (p *phase) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done != nil && !p.ended {
		close(p.done)
	}
	p.ended = true
}

// Ready is called when something has come from the client.
func (p *phase) Ready(_ *tcp.Poller, e tcp.Events) {
	if e.Over() {
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		p.end()
	}
}

// left is how the client has gone, nil if it has not.
func (p *phase) left() error {
	p.mu.Lock()
	over := p.over
	p.mu.Unlock()
	if !over {
		return nil
	}
	if err := p.connection.client.Err(); err != nil {
		return err
	}
	return syscall.ECONNRESET // somebody was told of it before
}

// clientLeft is why a phase has ended that nobody waits for any more.
type clientLeft struct{ error }

func (l *clientLeft) Unwrap() error { return l.error }

func (l *clientLeft) reason() observe.Reason {
	switch relay.CloseOf(l.error) {
	case observe.CloseTimeout:
		return observe.ClientGone
	case observe.CloseLocal:
		return observe.SocketDestroyed
	}
	return observe.ClientAbort
}
