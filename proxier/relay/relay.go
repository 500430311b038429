package relay

import (
	"errors"
	"io"
	"net"
	"os"
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

// Side is how one side of the connection began and ended.
type Side struct {
	First time.Time     // when its first byte came, zero if none did
	Close observe.Close // what the peer did
	At    time.Time     // when, zero if it did nothing
	Sent  observe.Close // what was sent to it
}

// Relay moves bytes between two connections until both sides are done.
type Relay struct {
	// OnAnswer, if not nil, is told when a backend's first byte comes: how long
	// after the client's first byte, or after the relay with that backend began if
	// that was later. It is called at most once, and must not block.
	OnAnswer func(took time.Duration)

	client, backend *side
	halfClose       time.Duration
	stalled, prompt time.Duration
	aborted         chan struct{} // closed by Abort

	// These belong to the goroutine that calls Run.
	upstream chan struct{} // closed when the client's direction has ended, nil while it does not run
	in       int64         // bytes that it has moved
	answer   *arrival      // what AwaitAnswer has found, nil if it was not asked
	early    *EarlyEnd     // that this was an early end

	mu       sync.Mutex
	begun    time.Time
	hold     *hold          // nil if nothing was ever held
	recalled bool           // the client's direction is to end, for a replay
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
	return &Relay{
		client:    &side{conn: client, Side: open, gone: observe.ClientGone, reset: observe.ClientReset},
		backend:   newBackend(backend),
		halfClose: halfClose,
		stalled:   stalled,
		prompt:    prompt,
		aborted:   make(chan struct{}),
	}
}

func newBackend(conn *net.TCPConn) *side {
	return &side{conn: conn, Side: open, gone: observe.BackendGone, reset: observe.BackendReset}
}

// open is a side that has done nothing yet.
var open = Side{Close: observe.CloseNone, Sent: observe.CloseNone}

// Run relays until both directions have ended, and closes both connections.
func (r *Relay) Run() Result {
	r.letGo()
	if r.answer != nil && r.upstream == nil {
		r.checkClient()
	}
	var out int64
	if r.answer == nil {
		r.start()
		out = r.copy(r.client, r.backend)
	} else {
		out = r.rest(r.client, r.backend, *r.answer)
	}
	if r.upstream == nil { // recalled for a replay that was not to be
		r.start()
	}
	<-r.upstream
	return r.end(out)
}

// start begins to copy from the client, in a goroutine of its own.
func (r *Relay) start() {
	r.mu.Lock()
	r.begun = time.Now()
	move := r.copy
	if r.hold != nil {
		move = r.copyHeld
	}
	r.mu.Unlock()
	upstream := make(chan struct{})
	r.upstream = upstream
	go func() {
		defer close(upstream)
		r.in = move(r.backend, r.client)
	}()
}

// end closes both connections after both directions have ended. An Abort from
// now on only makes it faster.
func (r *Relay) end(out int64) Result {
	res := Result{In: r.in, Out: out}
	r.mu.Lock()
	r.unwatch()
	if r.hold != nil {
		r.hold.free()
	}
	res.Reason, res.Errno = r.reason, r.errno
	r.mu.Unlock()
	if res.Reason == "" {
		res.Reason = observe.OK
	}
	r.close(r.client, res)
	r.close(r.backend, res)
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
	return r.rest(dst, src, r.await(src))
}

// rest is copy after the first byte of src has come, or its end.
func (r *Relay) rest(dst, src *side, first arrival) (n int64) {
	at, err := src, first.err
	if first.byte {
		if n, err = io.Copy(dst.conn, src.conn); err != nil {
			at = culprit(dst, src, err)
		}
	}
	if err != nil {
		r.failed(at, err)
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
	if r.looksReset(src) {
		r.blame(src, syscall.ECONNRESET)
		return
	}
	if src.Close == observe.CloseNone { // else it was passed on to another backend before
		src.Close, src.At = observe.CloseFIN, time.Now()
	}
	dst.conn.CloseWrite()
	dst.Sent = observe.CloseFIN
	if dst.Close == observe.CloseNone {
		r.watch(r.halfClose, observe.HalfCloseTimeout)
	}
}

// looksReset tells a reset from a FIN: it looks the same to a read when a write
// was told of it first. The caller holds r.mu.
func (r *Relay) looksReset(s *side) bool {
	return s.Sent == observe.CloseNone && isClosed(s.conn)
}

// watch ends the relay when no byte has been moved for a whole interval. The
// caller holds r.mu. A read deadline would not do: a peer that reads nothing
// blocks the write, and a write deadline would lose what is in the pipe.
func (r *Relay) watch(interval time.Duration, reason observe.Reason) {
	r.unwatch()
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

func (r *Relay) unwatch() {
	if r.watchdog != nil {
		r.watchdog.Stop()
		r.watchdog = nil
	}
}

// moved counts the bytes that have come from and gone to both sides.
func (r *Relay) moved() uint64 { return moved(r.client.conn) + moved(r.backend.conn) }

// failed is called when a copy ended with an error, of this side.
func (r *Relay) failed(s *side, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.isConsequence(err) {
		r.blame(s, err)
	}
}

// isConsequence tells an error of a copy that was made to end. The caller holds
// r.mu.
func (r *Relay) isConsequence(err error) bool {
	return r.reason != "" || r.recalled && errors.Is(err, os.ErrDeadlineExceeded)
}

// blame ends the relay because of one side. That side is still read to its end,
// so that what it sent before is delivered; from the other side nothing can be
// delivered any more. The caller holds r.mu.
func (r *Relay) blame(s *side, err error) {
	r.errno, s.At = err, time.Now()
	how := CloseOf(err)
	switch how {
	case observe.CloseRST:
		r.reason = s.reset
	case observe.CloseTimeout:
		r.reason = s.gone
	case observe.CloseLocal:
		r.reason = observe.SocketDestroyed
	default:
		r.reason = observe.InternalError
		r.interrupt()
		return
	}
	s.Close = how
	r.opposite(s).conn.SetReadDeadline(past)
	r.watch(r.stalled, r.reason)
}

// CloseOf is what the kernel's error of a connection says of its peer's end.
func CloseOf(err error) observe.Close {
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return observe.CloseRST
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return observe.CloseTimeout
	case errors.Is(err, syscall.ECONNABORTED):
		return observe.CloseLocal
	}
	return observe.CloseNone
}

func (r *Relay) opposite(s *side) *side {
	if s == r.client {
		return r.backend
	}
	return r.client
}

// close closes one side: in good order if both sides ended so, else with a
// reset, which must not overtake what was sent before it.
func (r *Relay) close(s *side, res Result) {
	if res.Reason == observe.OK {
		s.conn.Close()
		return
	}
	if s.Close == observe.CloseNone || s.Close == observe.CloseFIN {
		if res.Errno != nil {
			waitSent(s.conn, r.stalled, r.aborted)
		}
		s.conn.SetLinger(0)
		s.Sent = observe.CloseRST
	}
	s.conn.Close()
}
