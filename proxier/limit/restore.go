package limit

import (
	"context"
	"net/netip"
	"time"
)

// Restore counts in a connection that an earlier process has admitted, whatever the limits
// are now: it does not wait, takes no token of Limits.Rate, and stays if there are more
// than a limit allows, of which nobody enters until enough have left. wait is what the
// connection has left of Limits.Wait (Visit.Left).
//
// Limits.PerClient counts it if the Gate has a limit of connections, clients or rate now:
// the limits are to be set before.
func (g *Gate) Restore(addr netip.Addr, wait time.Duration) Visit {
	g.whole.n.Add(1)
	g.n.Add(1)
	v := Visit{gate: g, left: wait}
	if g.limits.Load().bound() {
		g.mu.Lock()
		v.client = g.hold(addr.Unmap())
		v.client.admitted++
		g.mu.Unlock()
	}
	return v
}

// RestoreEndpoint is Endpoint for a connection that an earlier process has admitted: it
// stays even if the endpoint has more than its Limits.PerEndpoint.
func (g *Gate) RestoreEndpoint(e netip.AddrPort) (leave func()) { return g.endpoints.restore(e) }

// EnterAgain is Enter for a connection that has waited in an earlier process and not been
// admitted. It waits for so long at most, and not for Limits.Wait.
func (g *Gate) EnterAgain(ctx context.Context, client netip.Addr, wait time.Duration) (Visit, error) {
	return g.enter(ctx, client, wait)
}

// Left is what is left of Limits.Wait. It does not change while the connection does not wait.
func (v Visit) Left() time.Duration { return max(v.left, 0) }

// State is what a Gate knows beside its connections. It is plain data.
type State struct {
	// Missing are the tokens of Limits.Rate that have yet to come back.
	Missing float64
}

// State returns the present one.
func (g *Gate) State() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	return State{Missing: g.bucket.missing(time.Now())}
}

// SetState is for a new Gate whose limits are set: as many tokens are missing as were in the
// Gate of an earlier process, so that an upgrade is no way to a second burst. What comes
// back between State and SetState is not counted, and no more are missing than the burst
// has now. Without a Limits.Rate it does nothing.
func (g *Gate) SetState(s State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bucket.miss(s.Missing, time.Now())
}
