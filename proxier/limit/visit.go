package limit

import (
	"context"
	"net/netip"
	"time"
)

// Visit is a connection that was admitted. It belongs to one goroutine and is not to
// be copied once it is in use. The zero Visit is one that has ended.
type Visit struct {
	gate   *Gate
	client *client       // nil: it is not counted
	left   time.Duration // of Limits.Wait
}

// Leave ends the visit and makes room for another one. Only the first call does.
func (v *Visit) Leave() {
	g, c := v.gate, v.client
	*v = Visit{}
	if g == nil {
		return
	}
	g.n.Add(-1)
	if c != nil {
		g.mu.Lock()
		c.admitted--
		g.drop(c)
		g.mu.Unlock()
	}
	g.whole.leave()
	if g.waiting.Load() > 0 {
		g.again()
	}
}

// WaitEndpoint admits the connection to the first of these endpoints that has room,
// for what is left of Limits.Wait; they are those that Gate.Endpoint refused. The
// caller calls leave once, in any case but that of an error. Without an error and
// without an endpoint (the zero one) there is something new to choose from.
//
// The error is an *Exceeded, or if ctx is done, the cause of that.
func (v *Visit) WaitEndpoint(ctx context.Context, full []netip.AddrPort) (e netip.AddrPort, leave func(), err error) {
	refused := v.gate.limits.Load().exceeded(PerEndpoint)
	if len(full) == 0 || !v.begin() {
		return e, nil, refused
	}
	place := v.gate.endpoints.line(full)
	end := v.wait(ctx, place.turn)
	if v.gate.endpoints.unline(place) {
		return place.got, place.leave, nil
	}
	if end.cause != nil {
		return e, nil, end.cause
	}
	refused.Waited = end.waited
	return e, nil, refused
}

// begin counts the connection as one that waits, false if it may not.
func (v *Visit) begin() bool {
	g := v.gate
	if v.left <= 0 {
		return false
	}
	if g.waiting.Add(1) > maxWaiting || !g.whole.wait() {
		g.waiting.Add(-1)
		return false
	}
	return true
}

// ending is how a wait has ended.
type ending struct {
	cause  error // why ctx was done, nil if it was not
	waited time.Duration
}

// wait waits after begin until it is the connection's turn, ctx is done or its time
// is over; which of these it was is for the caller to find out under its lock.
func (v *Visit) wait(ctx context.Context, turn <-chan struct{}) ending {
	start := time.Now()
	timer := time.NewTimer(v.left)
	defer timer.Stop()
	var end ending
	select {
	case <-turn:
	case <-timer.C:
	case <-ctx.Done():
		end.cause = context.Cause(ctx)
	}
	end.waited = time.Since(start)
	v.left -= end.waited
	v.gate.waiting.Add(-1)
	v.gate.whole.waiting.Add(-1)
	return end
}
