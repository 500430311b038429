package observe

import "time"

// flushes are asked of a goroutine that writes what others have queued: it closes what it
// receives once all that was queued before is written.
type flushes chan chan struct{}

// wait asks for one, and waits for it, but not for longer than patience: the goroutine may
// have ended, or wait for who reads.
func (f flushes) wait(patience time.Duration) {
	done, late := make(chan struct{}), time.After(patience)
	select {
	case f <- done:
	case <-late:
		return
	}
	select {
	case <-done:
	case <-late:
	}
}
