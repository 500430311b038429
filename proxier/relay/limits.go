package relay

import (
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// Limits are how long connections may go on. Relays share them, so they must not change.
// Silence is noticed when it has lasted up to a quarter longer.
//
// A relay that reaches one ends with resets to both sides: to a peer a FIN would look as
// if the other one had said all that it had to say, and what is cut off as if it were whole.
type Limits struct {
	// HalfClose is for how long one side may be silent after the other one has sent
	// its FIN; 0: for ever.
	HalfClose time.Duration
	// Idle is for how long both sides may be silent; 0: for ever. A peer is not silent
	// while it takes what was sent to it (acknowledges it, RFC 9293).
	Idle time.Duration
	// Duration is how long it may last from Start on; 0: for ever.
	Duration time.Duration
	// Peer says when the backend is gone. It is set when the relay is some seconds old,
	// which most do not become; the client's socket has it from its listener.
	Peer tcp.Liveness
	// TCPInfo says of which connections Result.Sockets has the kernel's TCP_INFO, which
	// limits nothing.
	TCPInfo observe.TCPInfoOf
}

// timeouts are how long a relay waits for what no Service has a say in.
type timeouts struct {
	// stalled is how long a peer may acknowledge nothing of what the other one sent
	// before its reset.
	stalled time.Duration
	// prompt is how soon a backend that was asked for nothing closes if it cannot serve:
	// later it is its timeout for idle connections.
	prompt time.Duration
}

var usual = timeouts{stalled: 10 * time.Second, prompt: 2 * time.Second}

// looks is how often a relay looks for progress in the time in which there must be some:
// it ends a quarter of that too late at most.
const looks = 4

// look is called by the clock when something may be due.
func (r *Relay) look() {
	r.mu.Lock()
	expired := r.open > 0 && !r.isStopped() && r.lookAround(now().tick())
	r.mu.Unlock()
	if expired {
		r.wakeBoth()
	}
}

// lookAround says whether a limit was reached. Else the clock calls again, if there is
// another one. The caller holds r.mu.
func (r *Relay) lookAround(now tick) (expired bool) {
	if now >= r.probeAt() {
		r.probed = true
		r.limits.Peer.Set(r.backend.conn.FD()) // only a socket that is over takes nothing
	}
	reason := r.overdue(now)
	if reason == "" {
		r.arm(now)
		return false
	}
	if r.reason == "" {
		r.reason = reason
	}
	r.stop()
	return true
}

// overdue is why the relay has to end, empty if it has not.
func (r *Relay) overdue(now tick) observe.Reason {
	if now >= r.endsAt() {
		return observe.MaxDuration
	}
	silence, reason := r.mayBeSilent()
	if silence == 0 {
		return ""
	}
	if taken := uint32(r.progress()); taken != r.taken || r.early != nil { // nobody can be silent while it rests
		r.taken, r.since = taken, now+1
	}
	if now < r.since+ticks(silence) {
		return ""
	}
	return reason
}

// arm has the clock call when something may be due. The caller holds r.mu.
func (r *Relay) arm(now tick) {
	at := min(r.probeAt(), r.endsAt())
	if silence, _ := r.mayBeSilent(); silence > 0 {
		at = min(at, r.since+ticks(silence), now+1+ticks(silence/looks))
	}
	if at < never {
		r.clock.call(r, at)
	}
}

// endsAt is when the relay is as old as it may be.
func (r *Relay) endsAt() tick {
	if r.limits.Duration == 0 {
		return never
	}
	return r.born + ticks(r.limits.Duration)
}

// probeAt is when the backend's socket is to be told how to find out that its peer is gone.
// It has to know that before it is time for it.
func (r *Relay) probeAt() tick {
	soonest := r.limits.Peer.Soonest()
	if r.probed || soonest == 0 {
		return never
	}
	return r.born + ticks(soonest/2)
}

// mayBeSilent is for how long no byte may move, and why the relay ends then; 0: for ever.
func (r *Relay) mayBeSilent() (time.Duration, observe.Reason) {
	idle, half := r.limits.Idle, r.limits.HalfClose
	halfOpen := r.client.closed == observe.CloseFIN || r.backend.closed == observe.CloseFIN
	switch {
	case r.errno != nil:
		return r.clock.timeouts.stalled, r.reason
	case halfOpen && half > 0 && (idle == 0 || half <= idle):
		return half, observe.HalfCloseTimeout
	}
	return idle, observe.IdleTimeout
}

// watch begins to measure silence anew, as another limit may count from now on. The caller
// holds r.mu.
func (r *Relay) watch() {
	in, out := r.Moved()
	r.taken = uint32(2 * (in + out)) // if peers have taken all of it, and most have
	now := now().tick()
	r.since = now + 1
	r.arm(now)
}

// progress grows with every byte that was moved, or that a peer has taken of what was. Of
// what is still with us the kernel knows how much that is.
func (r *Relay) progress() int64 {
	in, out := r.Moved()
	taken := in + out
	if in > 0 {
		taken -= int64(r.backend.conn.Unsent())
	}
	if out > 0 {
		taken -= int64(r.client.conn.Unsent())
	}
	return in + out + taken
}
