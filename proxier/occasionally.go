package proxier

import (
	"sync"
	"time"
)

// occasionally says yes once per interval, to keep a log readable.
type occasionally struct {
	interval time.Duration
	mu       sync.Mutex
	last     time.Time
}

func (o *occasionally) allow(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.last) < o.interval {
		return false
	}
	o.last = now
	return true
}
