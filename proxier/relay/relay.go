package relay

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// Result is what a relay has to tell.
type Result struct {
	In, Out         int64 // bytes from the client, and to it
	Reason          observe.Reason
	Errno           error // what the kernel said, nil if it ended in good order
	Client, Backend Side
	// Sockets is what the kernel knew of both; nil if it ended in good order and
	// Limits.TCPInfo does not ask for it.
	Sockets *observe.Sockets
}

// Side is how one side of the connection began and ended.
type Side struct {
	First time.Time     // when its first byte came, zero if none did
	Close observe.Close // what the peer did
	At    time.Time     // when, zero if it did nothing
	Sent  observe.Close // what was sent to it
}

// Owner is told what becomes of a relay. It is called by a poller, or by whoever has
// caused what it is told of, and must not block.
type Owner interface {
	// Answered tells when a backend's first byte comes: how long after the client's
	// first byte, or after the relay with that backend began if that was later. It is
	// called at most once.
	Answered(took time.Duration)
	// EndedEarly tells that a backend has ended a connection that is held without an
	// answer. The relay rests until Replay or GiveUp.
	EndedEarly(*EarlyEnd)
	// Panicked tells of a fault, because of which the relay is about to end. It is called by
	// who has recovered, whose stack is that of the fault.
	Panicked(value any)
	// Ended is the last call. Both connections are closed.
	Ended(Result)
}

// Settings are how a relay is to be.
type Settings struct {
	// Limits are those of its Service. They are shared, and not nil.
	Limits *Limits
	// Clock looks after them. It is not nil.
	Clock *Clock
	// Hold keeps what the client sends until a backend answers, for Replay.
	Hold bool
}

// Relay moves bytes between two connections until both sides are done. It is safe for
// concurrent use.
type Relay struct {
	owner           Owner
	client, backend side
	up, down        flow // from the client, and to it
	limits          *Limits

	// Its place in the clock, which guards all but the first.
	clock      *Clock
	next, prev *Relay
	due        tick

	holding atomic.Bool // hold is in use

	mu      sync.Mutex
	begun   moment
	born    tick           // when Start was called
	since   tick           // from when on nothing has moved, or was taken
	taken   uint32         // the end of progress, as it was then
	open    int8           // flows that have not ended, and calls that use the connections, as Start will
	isOver  bool           // Abort was called, or it was released
	leaving bool           // Release waits for both flows
	probed  bool           // limits.Peer was set
	aborted chan struct{}  // closed by Abort, and for Release; nil if nobody waits for that
	hold    *hold          // nil if nothing is held
	early   *EarlyEnd      // the relay rests until Replay or GiveUp
	reason  observe.Reason // empty while nothing has gone wrong
	errno   error
}

// side is one of the two connections. Relay.mu guards all but the first four.
type side struct {
	conn   *tcp.Conn
	ending atomic.Bool   // its end has come, perhaps with bytes before it
	over   atomic.Bool   // in both directions
	urgent atomic.Bool   // it has sent urgent data (urgent.go)
	closed observe.Close // what the peer did
	sent   observe.Close // what was sent to it
	first  moment        // when its first byte came
	at     moment        // when the peer did something
}

func (s *side) result() Side {
	return Side{First: s.first.time(), Close: s.closed, At: s.at.time(), Sent: s.sent}
}

// moment is a time in a third of the space: nanoseconds since the process began, 0 is never.
type moment int64

var processBegan = time.Now().Add(-1) // no moment is 0

func now() moment { return moment(time.Since(processBegan)) }

func (m moment) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return processBegan.Add(time.Duration(m))
}

// New prepares a relay, which owns both connections from Start on.
func New(client, backend *tcp.Conn, s Settings, owner Owner) *Relay {
	r := &Relay{owner: owner, limits: s.Limits, clock: s.Clock, open: 3}
	r.client.conn, r.backend.conn = client, backend
	r.up.between(r, &r.client, &r.backend)
	r.down.between(r, &r.backend, &r.client)
	if s.Hold {
		r.hold = &hold{}
		r.holding.Store(true)
	}
	return r
}

// Start begins to relay, or goes on after Resume.
func (r *Relay) Start() {
	resumed := r.born != 0
	switch {
	case !resumed:
		r.begun = now()
		r.born = r.begun.tick() + 1
	case r.begun == 0: // with another backend
		r.mu.Lock()
		r.beginAgain()
		r.mu.Unlock()
	}
	r.since = now().tick() + 1
	r.arm(r.since)
	if !resumed || r.holding.Load() { // else pollers tell if there is anything to do
		r.up.wake(byRead) // most clients have sent their request by now
	}
	r.watchBoth()
	r.unuse()
}

// watchBoth has the pollers call from now on. The caller uses the connections.
func (r *Relay) watchBoth() {
	r.mu.Lock()
	err := errors.Join(r.client.conn.Watch((*ofClient)(r)), r.backend.conn.Watch((*ofBackend)(r)))
	if err != nil && r.reason == "" {
		r.blame(&r.client, err)
	}
	stopped := r.reason != ""
	r.mu.Unlock()
	if stopped {
		r.wakeBoth()
	}
}

// ofClient and ofBackend are what pollers call.
type (
	ofClient  Relay
	ofBackend Relay
)

func (r *ofClient) Ready(_ *tcp.Poller, e tcp.Events) {
	(*Relay)(r).ready(&r.client, &r.up, &r.down, e)
}
func (r *ofBackend) Ready(_ *tcp.Poller, e tcp.Events) {
	(*Relay)(r).ready(&r.backend, &r.down, &r.up, e)
}

// ready is called when something may be done with a side.
func (r *Relay) ready(s *side, from, to *flow, e tcp.Events) {
	if e.Urgent() {
		r.urgent(s) // before the end, which splice asks for
	}
	if e.Ending() {
		s.ending.Store(true)
	}
	if e.Over() {
		s.over.Store(true)
		if state := from.state.Load(); state == stuck || state == over {
			r.hungUp(s)
		}
	}
	if e.Writable() {
		to.wake(byWrite)
	}
	if e.Readable() {
		from.wake(byRead)
	}
}

// hungUp is called when a side is over while what it has sent has yet to be written, or
// after its FIN: nobody reads from it.
func (r *Relay) hungUp(s *side) {
	r.mu.Lock()
	failed := false
	if r.reason == "" && r.early == nil && r.open > 0 { // else the connection may be closed
		if err := s.conn.Err(); err != nil {
			failed = true
			r.blame(s, err)
		}
	}
	r.mu.Unlock()
	if failed { // just now: a flow that is stuck asks each time
		r.wakeBoth()
	}
}

// opposite is the flow to a side.
func (r *Relay) opposite(s *side) *flow {
	if s == &r.client {
		return &r.down
	}
	return &r.up
}

// Moved are the bytes that were moved so far, from the client and to it.
func (r *Relay) Moved() (in, out int64) { return r.up.moved.Load(), r.down.moved.Load() }

// unuse is called when a flow has ended, or a call that has kept both connections open.
// The last one closes them.
func (r *Relay) unuse() {
	r.mu.Lock()
	r.open--
	last := r.open == 0
	r.mu.Unlock()
	if last {
		r.end()
	}
}

// Abort ends the relay at once with resets to both sides. It may be called at any time,
// also after its end. After Start the owner may hear of the end before Abort returns.
func (r *Relay) Abort(reason observe.Reason) {
	r.mu.Lock()
	if r.isOver {
		r.mu.Unlock()
		return
	}
	r.isOver = true
	if r.aborted != nil {
		close(r.aborted)
	}
	if r.reason == "" {
		r.reason = reason
	}
	r.stop()
	r.mu.Unlock()
	r.wakeBoth()
}

// stop ends both flows when they are woken up. The caller holds r.mu.
func (r *Relay) stop() {
	r.up.stopped.Store(true)
	r.down.stopped.Store(true)
}

func (r *Relay) isStopped() bool { return r.up.stopped.Load() && r.down.stopped.Load() }

func (r *Relay) wakeBoth() {
	r.up.wake(byOther)
	r.down.wake(byOther)
}

// noteFirst keeps when the first byte of a side came, and tells of the backend's.
func (r *Relay) noteFirst(s *side) {
	now := now()
	r.mu.Lock()
	s.first = now
	asked := r.begun
	if r.client.first != 0 {
		asked = max(asked, r.client.first)
	}
	r.mu.Unlock()
	if s == &r.backend {
		// A client that is served first has asked for nothing: never negative.
		r.owner.Answered(time.Duration(max(0, now-asked)))
	}
}

// ended is called when everything that a side will ever send has been moved: it has sent
// its FIN, which is passed on.
func (r *Relay) ended(f *flow) {
	r.mu.Lock()
	r.passFIN(f)
	failed := r.reason != ""
	r.mu.Unlock()
	if failed {
		r.wakeBoth()
	}
}

// passFIN needs r.mu.
func (r *Relay) passFIN(f *flow) {
	if r.reason != "" {
		return
	}
	back := r.opposite(f.src)
	if (f.src.over.Load() || back.isMoving()) && looksReset(f.src) {
		r.blame(f.src, syscall.ECONNRESET)
		return
	}
	if f.src.closed == observe.CloseNone { // else it was passed on to another backend before
		f.src.closed, f.src.at = observe.CloseFIN, now()
	}
	f.dst.sent = observe.CloseFIN
	if f.src.sent == observe.CloseFIN && back.state.Load() == over {
		return // both sides are closed in a moment, which sends it
	}
	f.dst.conn.CloseWrite()
	if f.dst.closed == observe.CloseNone {
		r.watch()
	}
}

// looksReset tells a reset from a FIN: it looks the same to a read when a write was told
// of it first.
func looksReset(s *side) bool { return s.sent == observe.CloseNone && s.conn.Closed() }

// failed is called when a side has failed a flow.
func (r *Relay) failed(s *side, err error) {
	r.mu.Lock()
	if r.reason == "" {
		r.blame(s, err)
	}
	r.mu.Unlock()
	r.wakeBoth()
}

// blame ends the relay because of one side. That side is still read to its end,
// so that what it sent before is delivered; from the other side nothing can be
// delivered any more. The caller holds r.mu, and wakes both flows up without it.
func (r *Relay) blame(s *side, err error) {
	r.errno, s.at = err, now()
	how := CloseOf(err)
	switch {
	case how == observe.CloseRST && s == &r.client:
		r.reason = observe.ClientReset
	case how == observe.CloseRST:
		r.reason = observe.BackendReset
	case how == observe.CloseTimeout && s == &r.client:
		r.reason = observe.ClientGone
	case how == observe.CloseTimeout:
		r.reason = observe.BackendGone
	case how == observe.CloseLocal:
		r.reason = observe.SocketDestroyed
	default:
		r.reason = observe.InternalError
		r.stop()
		return
	}
	s.closed = how
	r.opposite(s).stopped.Store(true)
	r.watch()
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
