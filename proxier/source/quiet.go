package source

import (
	"sync"
	"time"
)

// quietKeys bounds what a quiet remembers.
const quietKeys = 1000

// quiet keeps a line that repeats from filling the log. It may be used by
// several goroutines.
type quiet struct {
	every time.Duration // the same key passes once in this time
	now   func() time.Time

	mu   sync.Mutex
	said map[string]time.Time
}

func newQuiet(every time.Duration) *quiet {
	return &quiet{every: every, now: time.Now, said: make(map[string]time.Time)}
}

// passes reports whether it is time to say key again.
func (q *quiet) passes(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if last, ok := q.said[key]; ok && now.Sub(last) < q.every {
		return false
	}
	if len(q.said) >= quietKeys {
		clear(q.said)
	}
	q.said[key] = now
	return true
}
