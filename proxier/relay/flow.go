package relay

import (
	"io"
	"sync/atomic"

	"github.com/usher-proxy/usher/proxier/observe"
)

// flow is one direction of a relay. It has a goroutine only while it moves bytes: that of
// the poller that has woken it up, or one of its own if there are many. In between it
// rests, and nothing but what could not be written yet is kept for it.
type flow struct {
	relay    *Relay
	src, dst *side
	state    atomic.Int32
	stopped  atomic.Bool  // nothing more is to be moved
	moved    atomic.Int64 // bytes written

	// These belong to who moves.
	begun bool      // the first byte has come
	bulk  bool      // it comes in large pieces
	left  *leftover // nil if there is nothing
	at    *side     // that has failed
}

// leftover is what was read and not written yet: in one of the two.
type leftover struct {
	rest []byte
	pipe *pipe
}

// The states of a flow.
const (
	resting int32 = iota // until there is something to read
	stuck                // until there is room to write
	moving
	movingOn // it was woken up meanwhile, and looks once more
	over
)

// cause is why a flow is woken up.
type cause int

const (
	byRead  cause = iota // there is something to read
	byWrite              // there is room to write
	byOther              // something else has changed
)

func (f *flow) between(r *Relay, src, dst *side) { f.relay, f.src, f.dst = r, src, dst }

// wake moves what there is, unless somebody else does.
func (f *flow) wake(why cause) {
	for {
		switch state := f.state.Load(); state {
		case resting, stuck:
			if why == byWrite && state == resting || why == byRead && state == stuck {
				return
			}
			if f.state.CompareAndSwap(state, moving) {
				f.move(false)
				return
			}
		case moving:
			if f.state.CompareAndSwap(moving, movingOn) {
				return
			}
		default:
			return
		}
	}
}

// isMoving says whether somebody moves bytes, who may have been told of a side's end.
func (f *flow) isMoving() bool {
	state := f.state.Load()
	return state == moving || state == movingOn
}

// outcome is what became of a burst.
type outcome int

const (
	drained  outcome = iota // there is nothing to read for now
	full                    // there is no room to write for now
	long                    // there is more than others may be kept waiting for
	done                    // nothing more will come
	doneHeld                // likewise, and Relay.mu has seen it: a Replay may have begun the flow anew
)

// move moves bytes until it would have to wait. own says that nobody else waits for this
// goroutine.
func (f *flow) move(own bool) {
	defer f.survive()
	for {
		next := resting
		switch f.burst(own) {
		case full:
			next = stuck
			if f.src.over.Load() {
				f.relay.hungUp(f.src)
			}
		case long:
			go f.move(true)
			return
		case done:
			f.end()
			return
		case doneHeld:
			f.relay.unuse()
			return
		}
		if f.state.CompareAndSwap(moving, next) {
			return
		}
		f.state.Store(moving)
	}
}

// survive has a fault of ours end this connection alone: others have the same poller.
func (f *flow) survive() {
	value := recover()
	if value == nil {
		return
	}
	r := f.relay
	r.owner.Panicked(value)
	r.mu.Lock()
	if r.reason == "" {
		r.reason = observe.InternalError
	}
	r.stop()
	r.mu.Unlock()
	f.end()
	r.wakeBoth()
}

// end ends the flow.
func (f *flow) end() {
	f.state.Store(over)
	f.relay.unuse()
}

// burst moves bytes until it would have to wait.
func (f *flow) burst(own bool) outcome {
	if f.relay.holding.Load() {
		if result, free := f.relay.held(f); !free {
			return result
		}
	}
	if f.stopped.Load() {
		return done
	}
	err := f.flush()
	if err == nil && f.bulk && !own {
		return long
	}
	if err == nil {
		_, err = io.Copy((*sink)(f), (*source)(f))
	}
	switch err {
	case nil:
		f.relay.ended(f)
		return done
	case errDrained:
		return drained
	case errFull:
		if err = f.dst.conn.WantWrite(); err == nil {
			return full
		}
		f.at = f.dst
	case errLong:
		return long
	case errStopped:
		return done
	}
	f.relay.failed(f.at, err)
	return done
}

// failed notes who has failed.
func (f *flow) failed(at *side, err error) error {
	f.at = at
	return err
}

// first is called when bytes have come.
func (f *flow) first() {
	if !f.begun {
		f.begun = true
		f.relay.noteFirst(f.src)
	}
}

// source is a flow's end to read from.
type source flow

// Read reads what has come, or returns tcp.ErrWait.
func (s *source) Read(p []byte) (int, error) { return s.src.conn.Read(p) }

// sink is a flow's end to write to.
type sink flow

// Write writes what there is room for.
func (s *sink) Write(p []byte) (int, error) { return s.dst.conn.Write(p) }
