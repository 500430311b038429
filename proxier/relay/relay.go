package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// Result is what a relay has to tell.
type Result struct {
	In, Out         int64 // bytes from the client, and to it
	Reason          observe.Reason
	Errno           error // what the kernel said, nil if it ended in good order
	Client, Backend Side
}

// Side is how one side of the connection ended.
type Side struct {
	Close observe.Close // what the peer did
	At    time.Time     // when, zero if it did nothing
	Sent  observe.Close // what was sent to it
}

// Relay moves bytes between two connections until both sides are done.
type Relay struct {
	client, backend *side
	halfClose       time.Duration
	stalled         time.Duration
	aborted         chan struct{} // closed by Abort

	mu       sync.Mutex
	reason   observe.Reason // empty while nothing has gone wrong
	errno    error
	watchdog *time.Timer // nil while both sides are open
}

// side is one of the two connections. Relay.mu guards all but conn.
type side struct {
	conn *net.TCPConn
	Side
	gone, reset observe.Reason // what it is called when this side causes the end
}

// New prepares a relay. After one side has sent its FIN, the other one may be
// silent for halfClose, and at most twice as long, before the connection ends.
func New(client, backend *net.TCPConn, halfClose time.Duration) *Relay {
	none := Side{Close: observe.CloseNone, Sent: observe.CloseNone}
	return &Relay{
		client:    &side{conn: client, Side: none, gone: observe.ClientGone, reset: observe.ClientReset},
		backend:   &side{conn: backend, Side: none, gone: observe.BackendGone, reset: observe.BackendReset},
		halfClose: halfClose,
		stalled:   stalled,
		aborted:   make(chan struct{}),
	}
}

// Run relays until both directions have ended, and closes both connections.
func (r *Relay) Run() Result {
	var res Result
	upstream := make(chan struct{})
	go func() {
		defer close(upstream)
		res.In = r.copy(r.backend, r.client)
	}()
	res.Out = r.copy(r.client, r.backend)
	<-upstream

	r.mu.Lock()
	if r.watchdog != nil {
		r.watchdog.Stop()
		r.watchdog = nil
	}
	r.mu.Unlock()
	r.close(r.client)
	r.close(r.backend)
	res.Reason, res.Errno = r.reason, r.errno
	if res.Reason == "" {
		res.Reason = observe.OK
	}
	res.Client, res.Backend = r.client.Side, r.backend.Side
	return res
}

// Abort ends the relay at once with resets to both sides. It may be called from
// any goroutine, also after Run has returned.
func (r *Relay) Abort(reason observe.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isAborted() {
		return
	}
	close(r.aborted)
	if r.reason == "" {
		r.reason = reason
	}
	r.interrupt()
}

// isAborted needs r.mu, so that a caller cannot miss an Abort.
func (r *Relay) isAborted() bool {
	select {
	case <-r.aborted:
		return true
	default:
		return false
	}
}

// interrupt ends whatever either copy waits for.
func (r *Relay) interrupt() {
	r.client.conn.SetDeadline(past)
	r.backend.conn.SetDeadline(past)
}

var past = time.Unix(1, 0)

// copy moves one direction to its end and returns the bytes moved.
func (r *Relay) copy(dst, src *side) int64 {
	n, err := io.Copy(dst.conn, src.conn)
	if err != nil {
		r.failed(dst, src, err)
	} else {
		r.ended(dst, src)
	}
	return n
}

// ended is called when everything that src will ever send has been moved to
// dst: src has sent its FIN, which is passed on.
func (r *Relay) ended(dst, src *side) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason != "" {
		return
	}
	if src.Sent == observe.CloseNone && isClosed(src.conn) {
		// A reset looks like this too, when a write was told of it first.
		r.blame(src, syscall.ECONNRESET)
		return
	}
	src.Close, src.At = observe.CloseFIN, time.Now()
	dst.conn.CloseWrite()
	dst.Sent = observe.CloseFIN
	if dst.Close == observe.CloseNone {
		r.watch(r.halfClose, observe.HalfCloseTimeout)
	}
}

// watch ends the relay when no byte has been moved for a whole interval. The
// caller holds r.mu. A read deadline would not do: a peer that reads nothing
// blocks the write, and a write deadline would lose what is in the pipe.
func (r *Relay) watch(interval time.Duration, reason observe.Reason) {
	if r.watchdog != nil {
		r.watchdog.Stop()
	}
	var watchdog *time.Timer
	before := r.moved()
	watchdog = time.AfterFunc(interval, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.watchdog != watchdog {
			return // replaced, or over
		}
		now := r.moved()
		if now != before {
			before = now
			watchdog.Reset(interval)
			return
		}
		if r.reason == "" {
			r.reason = reason
		}
		r.interrupt()
	})
	r.watchdog = watchdog
}

// moved counts the bytes that have come from and gone to both sides.
func (r *Relay) moved() uint64 { return moved(r.client.conn) + moved(r.backend.conn) }

// failed is called when a copy ended with an error.
func (r *Relay) failed(dst, src *side, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason == "" { // else it is a consequence of what ended it
		r.blame(culprit(dst, src, err), err)
	}
}

// blame ends the relay because of one side. That side is still read to its end,
// so that what it sent before is delivered; from the other side nothing can be
// delivered any more. The caller holds r.mu.
func (r *Relay) blame(s *side, err error) {
	r.errno, s.At = err, time.Now()
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		r.reason, s.Close = s.reset, observe.CloseRST
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		r.reason, s.Close = s.gone, observe.CloseTimeout
	case errors.Is(err, syscall.ECONNABORTED):
		r.reason, s.Close = observe.SocketDestroyed, observe.CloseLocal
	default:
		r.reason = observe.InternalError
		r.interrupt()
		return
	}
	r.opposite(s).conn.SetReadDeadline(past)
	r.watch(r.stalled, r.reason)
}

func (r *Relay) opposite(s *side) *side {
	if s == r.client {
		return r.backend
	}
	return r.client
}

// close closes one side: in good order if both sides ended so, else with a
// reset, which must not overtake what was sent before it.
func (r *Relay) close(s *side) {
	if r.reason == "" {
		s.conn.Close()
		return
	}
	if s.Close == observe.CloseNone || s.Close == observe.CloseFIN {
		if r.errno != nil {
			waitSent(s.conn, r.stalled, r.aborted)
		}
		s.conn.SetLinger(0)
		s.Sent = observe.CloseRST
	}
	s.conn.Close()
}
