package relay

import (
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// EarlyEnd is a backend's end of a connection on which it has sent nothing.
type EarlyEnd struct {
	Close observe.Close // CloseRST, CloseFIN, or CloseTimeout: it is gone
	Errno error         // what the kernel said, nil for a FIN
}

func (e *EarlyEnd) Error() string {
	if e.Errno == nil {
		return "the endpoint closed the connection before it had sent anything"
	}
	return fmt.Sprintf("the endpoint ended the connection before it had sent anything: %v", e.Errno)
}

// Unwrap returns the kernel's error.
func (e *EarlyEnd) Unwrap() error { return e.Errno }

// held is a burst while what the client sends is held. It is not any more if free.
func (r *Relay) held(f *flow) (result outcome, free bool) {
	result, free, then := r.heldBurst(f)
	then()
	return result, free
}

// heldBurst also returns what is to be done without the lock.
func (r *Relay) heldBurst(f *flow) (result outcome, free bool, then func()) {
	r.mu.Lock()
	defer r.mu.Unlock() // also after a panic, for survive
	if r.early != nil {
		return drained, false, nothing // it rests
	}
	switch {
	case r.leaving:
		result = done
	case r.hold == nil || r.reason != "":
		free = true
		r.letGo()
	case f == &r.up:
		result, free = r.holdMore()
	default:
		result, free = r.awaitAnswer()
	}
	if result == done {
		result = doneHeld
		f.state.Store(over)
	}
	switch early := r.early; {
	case r.reason != "":
		return result, free, r.wakeBoth
	case early != nil:
		return result, free, func() { r.owner.EndedEarly(early) }
	}
	return result, free, nothing
}

func nothing() {}

// holdMore moves what the client sends, and keeps it.
func (r *Relay) holdMore() (result outcome, free bool) {
	h := r.hold
	for {
		if result, ok := r.sendHeld(); !ok {
			return result, false
		}
		take := h.fill
		if h.full() {
			take = (*tcp.Conn).Peek
		}
		switch err := take(r.client.conn); err {
		case nil:
			if h.full() && h.sent == HoldLimit {
				r.letGo() // one byte more than can be held
				return 0, true
			}
			if !r.up.begun {
				r.up.begun, r.client.first = true, now()
			}
		case tcp.ErrWait:
			if r.client.isDrained() {
				return drained, false
			}
		case io.EOF:
			r.passFIN(&r.up)
			return done, false
		default:
			r.blame(&r.client, err)
			return done, false
		}
	}
}

// sendHeld sends what is held as far as it was not sent yet. It is false if that is not
// possible now.
func (r *Relay) sendHeld() (result outcome, ok bool) {
	if r.hold.lost != nil {
		return drained, false
	}
	n, err := r.backend.conn.Write(r.hold.unsent())
	r.hold.sent += n
	r.up.moved.Store(int64(r.hold.sent))
	if err == tcp.ErrWait {
		if err = r.backend.conn.WantWrite(); err == nil {
			return full, false
		}
	}
	switch {
	case err == nil:
		return 0, true
	case r.backend.conn.Closed():
		r.hold.lost = err // the other flow wakes up too: there may be an answer before it
		return drained, false
	}
	r.blame(&r.backend, err)
	return done, false
}

// awaitAnswer looks for the backend's first byte, and leaves it there.
func (r *Relay) awaitAnswer() (result outcome, free bool) {
	err := r.backend.conn.Peek()
	for err == tcp.ErrWait && !r.backend.isDrained() {
		err = r.backend.conn.Peek()
	}
	switch err {
	case nil:
		r.letGo()
		return 0, true
	case tcp.ErrWait:
		return drained, false
	case io.EOF:
		err = nil
	}
	if early := r.judge(err); early != nil {
		r.early = early
		return drained, false
	}
	r.letGo()
	if err != nil && r.reason == "" {
		r.blame(&r.backend, err)
	}
	return 0, true
}

// judge tells whether the end that came instead of an answer allows for a replay; nil: it
// does not.
func (r *Relay) judge(err error) *EarlyEnd {
	switch {
	case err != nil:
	case looksReset(&r.backend):
		if err = r.hold.lost; err == nil { // a write was told, and so the read was not
			err = syscall.ECONNRESET
		}
	case r.client.first == 0 && time.Duration(now()-r.begun) > r.clock.timeouts.prompt:
		return nil // nobody has asked it for anything: it does not wait any longer
	case r.backend.sent == observe.CloseFIN:
		return nil // an empty answer
	default:
		return &EarlyEnd{Close: observe.CloseFIN}
	}
	if how := CloseOf(err); how == observe.CloseRST || how == observe.CloseTimeout {
		return &EarlyEnd{Close: how, Errno: err}
	}
	return nil
}

// letGo ends the holding, if there is any: from now on there is one backend. The caller
// holds Relay.mu.
func (r *Relay) letGo() {
	if r.hold == nil {
		return
	}
	defer r.holding.Store(false) // from then on flows do not ask for r.mu
	if unsent := r.hold.unsent(); len(unsent) > 0 {
		r.up.left = &leftover{rest: slices.Clone(unsent)}
	}
	if r.hold.lost != nil && r.reason == "" {
		r.blame(&r.backend, r.hold.lost)
	}
	r.hold.free()
	r.hold = nil
}

// Replay puts another backend in the place of the one that ended early, which is
// closed. The relay owns the new one, and sends it everything that the client
// has sent. It may only be called after Owner.EndedEarly.
func (r *Relay) Replay(backend *tcp.Conn) {
	r.mu.Lock()
	r.backend.conn.Reset() // nobody waits for an answer any more
	r.backend.conn, r.backend.first, r.backend.at = backend, 0, 0
	r.backend.closed, r.backend.sent = observe.CloseNone, observe.CloseNone
	r.backend.ending.Store(false)
	r.backend.over.Store(false)
	r.backend.urgent.Store(false)
	r.hold.sent, r.hold.lost = 0, nil
	r.up.moved.Store(0)
	r.probed = false
	if r.up.state.CompareAndSwap(over, resting) { // the FIN is to be passed on once more
		r.open++
	}
	r.beginAgain()
	r.resume()
}

// beginAgain begins with another backend, which gets nothing if nobody waits for its answer.
// The caller holds r.mu.
func (r *Relay) beginAgain() {
	r.begun = now()
	if r.checkClient(); r.reason != "" {
		r.stop()
	}
}

// GiveUp goes on with the backend that ended early, as without replay. It may only be
// called after Owner.EndedEarly.
func (r *Relay) GiveUp() {
	r.mu.Lock()
	r.checkClient()
	if r.reason == "" && r.early.Errno != nil {
		r.blame(&r.backend, r.early.Errno)
	}
	r.letGo()
	r.resume()
}

// checkClient finds out whether the client has gone while another backend was looked for.
// The caller holds r.mu.
func (r *Relay) checkClient() {
	if r.reason == "" && looksReset(&r.client) {
		r.blame(&r.client, syscall.ECONNRESET)
	}
}

// resume ends the rest. The caller holds r.mu, which is unlocked.
func (r *Relay) resume() {
	r.early = nil
	r.open++
	r.watch()
	r.mu.Unlock()
	r.watchBoth()
	r.wakeBoth()
	r.unuse()
}
