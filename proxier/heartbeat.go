package proxier

import (
	"context"
	"time"
)

// passLimit is how long a pass may take before it counts as one that hangs. Passes wait for
// others: programs that write rules, and whoever holds the xtables lock. Each such wait has
// a limit of its own (iptables.Timeout), so that a pass which gets anywhere is far from this.
const passLimit = 5 * time.Minute

// heartbeat has whoever supervises this process know that the loop turns. It beats from the
// loop itself: a loop that hangs is silent.
type heartbeat struct {
	beat  func() // nil: nobody listens
	C     <-chan time.Time
	limit time.Duration // for what during runs
	stop  func()
}

func newHeartbeat(beat func(), every, limit time.Duration) *heartbeat {
	if beat == nil {
		return &heartbeat{stop: func() {}}
	}
	ticker := time.NewTicker(every)
	return &heartbeat{beat, ticker.C, limit, ticker.Stop}
}

// during runs f and beats meanwhile, for as long as f may take. Then it only waits.
func (h *heartbeat) during(f func()) {
	if h.beat == nil {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	beats, limit := h.C, time.After(h.limit)
	for {
		select {
		case <-done:
			return
		case <-beats:
			h.beat()
		case <-limit:
			beats = nil
		}
	}
}

// pause waits, beating, and returns false if ctx ended first.
func (h *heartbeat) pause(ctx context.Context, d time.Duration) bool {
	over := time.After(d)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return true
		case <-h.C:
			h.beat()
		}
	}
}
