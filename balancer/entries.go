package balancer

import (
	"net/netip"
	"time"
)

// AffinityEntry is what an Affinity knows of a client. It is plain data.
type AffinityEntry struct {
	Client   netip.Addr
	Endpoint netip.AddrPort
	Ago      time.Duration // since the client last connected
}

// Entries returns all clients that are remembered, who has not connected for the longest
// time first. Some may be remembered for longer than the timeout.
func (a *Affinity) Entries() []AffinityEntry {
	a.mu.Lock()
	clients, bindings := a.clients.Keys(), a.clients.Values()
	now := time.Since(a.start)
	a.mu.Unlock()
	entries := make([]AffinityEntry, len(clients))
	for i, b := range bindings {
		entries[i] = AffinityEntry{Client: clients[i], Endpoint: b.endpoint, Ago: now - b.used}
	}
	return entries
}

// Restore remembers what Entries has said of another Affinity, in an earlier process
// perhaps. It is to be called before the first pick: these clients count as those that have
// connected last. Of more than the limit the first are forgotten, which Evicted does not
// count.
func (a *Affinity) Restore(entries []AffinityEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Since(a.start)
	for i := range entries {
		e := &entries[i]
		a.clients.Add(e.Client.Unmap(), binding{e.Endpoint, now - max(e.Ago, 0)})
	}
}
