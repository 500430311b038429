package proxier

import (
	"context"
	"sync/atomic"
	"syscall"

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
	context.Context
	connection *connection
	cancel     context.CancelCauseFunc
	over       atomic.Bool // the client's connection is
}

// Done is called by who is about to wait, and is counted by then.
func (p *phase) Done() <-chan struct{} {
	c := p.connection
	if c.poller != nil {
		c.poller.HandOver()
		c.poller = nil
	}
	if err := c.client.Watch(p); err != nil {
		c.log.WithError(err).Error("cannot watch a client that waits")
	}
	return p.Context.Done()
}

// Ready is called when something has come from the client.
func (p *phase) Ready(_ *tcp.Poller, e tcp.Events) {
	if e.Over() {
		p.over.Store(true)
		p.cancel(nil)
	}
}

// left is how the client has gone, nil if it has not.
func (p *phase) left() error {
	if !p.over.Load() {
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
