package relay

import "time"

// arrival is what came first from one side.
type arrival struct {
	byte bool  // a byte, which is still to be read
	err  error // else why there will be none, nil for a FIN
}

// await waits for the first that comes from src. It takes no byte.
func (r *Relay) await(src *side) arrival {
	came, err := readable(src.conn)
	if came {
		r.noteFirst(src, time.Now())
	}
	return arrival{came, err}
}

// noteFirst keeps when the first byte came, and tells OnAnswer of the backend's.
func (r *Relay) noteFirst(src *side, now time.Time) {
	r.mu.Lock()
	if !src.First.IsZero() {
		r.mu.Unlock()
		return
	}
	src.First = now
	asked := r.begun
	if r.client.First.After(asked) {
		asked = r.client.First
	}
	r.mu.Unlock()
	if src == r.backend && r.OnAnswer != nil {
		// A client that is served first has asked for nothing: never negative.
		r.OnAnswer(max(0, now.Sub(asked)))
	}
}
