package relay

import (
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// end is called when both flows have ended.
func (r *Relay) end() {
	if r.goesOn() {
		return
	}
	r.mu.Lock()
	r.clock.forget(r)
	r.letGo()
	owes := r.errno != nil && (owed(&r.client) || owed(&r.backend))
	r.mu.Unlock()
	if owes {
		go r.closeSlowly()
	} else {
		r.close()
	}
}

// owed says whether a side is yet to get something before it gets a reset.
func owed(s *side) bool { return isThere(s) && s.conn.Unsent() > 0 }

// isThere says whether a side is still there for a reset.
func isThere(s *side) bool { return s.closed == observe.CloseNone || s.closed == observe.CloseFIN }

// closeSlowly waits until what was sent has arrived: a reset must not overtake it. It may be
// released meanwhile.
func (r *Relay) closeSlowly() {
	r.mu.Lock()
	r.aborted = make(chan struct{})
	if r.isOver {
		close(r.aborted)
	}
	stop := r.aborted // Release puts another one in its place
	r.mu.Unlock()
	for _, s := range []*side{&r.client, &r.backend} {
		if isThere(s) {
			waitSent(s.conn, r.clock.timeouts.stalled, stop)
		}
	}
	if !r.goesOn() {
		r.close()
	}
}

// close closes both sides, in good order if both ended so, else with a reset, and tells
// the owner.
func (r *Relay) close() {
	lost := unwritten{r.up.waiting(), r.down.waiting()}
	r.up.drop()
	r.down.drop()
	r.mu.Lock()
	res := Result{Reason: r.reason, Errno: r.errno}
	r.isOver = true
	r.mu.Unlock()
	if res.Reason == "" {
		res.Reason = observe.OK
	}
	if wants := r.limits.TCPInfo.Wants(res.Reason); wants || res.Reason != observe.OK {
		res.Sockets = r.sockets(lost, wants)
	}
	for _, s := range []*side{&r.client, &r.backend} {
		if res.Reason == observe.OK || !isThere(s) {
			s.conn.Close()
			continue
		}
		s.conn.Reset()
		s.sent = observe.CloseRST
	}
	res.In, res.Out = r.Moved()
	res.Client, res.Backend = r.client.result(), r.backend.result()
	r.owner.Ended(res)
}

// unwritten are the bytes that were read and will not be written any more, in each
// direction.
type unwritten struct{ up, down int }

// sockets asks the kernel about both sides before they are closed. After a good end nothing
// is to be learned from that: what was sent is still delivered.
func (r *Relay) sockets(lost unwritten, info bool) *observe.Sockets {
	all := &observe.Sockets{UnsentClient: r.client.unsent(lost.down), UnsentBackend: r.backend.unsent(lost.up)}
	if info {
		all.Client, all.Backend = observe.NewTCPInfo(r.client.conn.Info()), observe.NewTCPInfo(r.backend.conn.Info())
	}
	return all
}

// unsent are the bytes for a side that it has not acknowledged, lost ones among them. The
// kernel counts a FIN as one.
func (s *side) unsent(lost int) int64 {
	n := s.conn.Unsent()
	if n > 0 && s.sent == observe.CloseFIN {
		n--
	}
	return int64(n + lost)
}

// waitSent waits until the peer has acknowledged everything, until it makes no
// progress for that long, or until aborted. The kernel tells nobody when that happens, so it
// has to be asked; this is only done before a reset, which discards the rest.
func waitSent(conn *tcp.Conn, stalled time.Duration, aborted <-chan struct{}) {
	left, deadline := conn.Unsent(), time.Now().Add(stalled)
	for pause := time.Millisecond; left > 0 && time.Now().Before(deadline); pause = min(2*pause, 50*time.Millisecond) {
		select {
		case <-aborted:
			return
		case <-time.After(pause):
		}
		if now := conn.Unsent(); now < left {
			left, deadline = now, time.Now().Add(stalled)
		}
	}
}
