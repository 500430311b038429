package relay

import (
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// Finished says which sides have sent their FIN. It may be called at any time.
func (r *Relay) Finished() (client, backend bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.client.closed == observe.CloseFIN, r.backend.closed == observe.CloseFIN
}

// Look calls see with both connections, which are open until it returns. It returns false
// without a call if they are not to be had: the relay has ended, has given them away, or
// looks for another backend. It may be called at any time; see must not block, and change
// nothing.
func (r *Relay) Look(see func(client, backend *tcp.Conn)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == 0 || r.early != nil {
		return false
	}
	see(r.client.conn, r.backend.conn)
	return true
}
