package relay

import (
	"errors"
	"slices"

	"github.com/usher-proxy/usher/proxier/tcp"
)

// ErrHasBackend is why a relay does not release its client alone.
var ErrHasBackend = errors.New("the relay does not wait for another backend: use Release")

// ReleaseClient is Release for a relay whose backend has ended early, and whose owner has
// stopped to look for another one: it calls neither Replay nor GiveUp afterwards. The
// client's connection stays open, watched by nobody; what was left of the backend is closed.
// When another backend is found, in this process or in another one, Resume sends it
// everything that the client has sent, its FIN too.
//
// It waits for nobody. With an error the relay is as it was: ErrHasBackend if no backend has
// ended early, and ErrEnding if it was aborted, has reached a limit, or the client is gone
// meanwhile, so that GiveUp ends it.
func (r *Relay) ReleaseClient() (client *tcp.Conn, s State, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.open == 0, r.isOver, r.reason != "", r.early != nil && looksReset(&r.client):
		return nil, State{}, ErrEnding
	case r.early == nil:
		return nil, State{}, ErrHasBackend
	}
	// It rests for good: flows that are woken up see that it does (held), and nobody else
	// uses connections of which none is open.
	r.isOver, r.open = true, 0
	r.clock.forget(r)
	r.client.conn.Unwatch()
	r.backend.conn.Reset()
	s = State{Started: r.born.time(), Hold: true, Held: slices.Clone(r.hold.data), Client: r.client.result()}
	r.hold.free()
	return r.client.conn, s, nil
}
