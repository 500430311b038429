package udp

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// refusals remembers which endpoints have refused datagrams. A host tells so
// (ICMP port unreachable) about once a second, whoever asks (icmp(7):
// icmp_ratelimit): what one session has been told, the others have to hear from
// it. It is safe for concurrent use.
type refusals struct {
	known atomic.Int32 // how many there are: as a rule none

	mu sync.Mutex
	at *simplelru.LRU[netip.AddrPort, time.Duration]
}

const (
	// maxRefusals bounds the memory.
	maxRefusals = 1024
	// avoidTime is for how long a new session goes elsewhere if it can.
	avoidTime = 5 * time.Second
)

func newRefusals() *refusals {
	at, _ := simplelru.NewLRU[netip.AddrPort, time.Duration](maxRefusals, nil) // fails below 1 only
	return &refusals{at: at}
}

// add tells that an endpoint has refused something.
func (r *refusals) add(endpoint netip.AddrPort, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at.Add(endpoint, now)
	r.known.Store(int32(r.at.Len()))
}

// answered tells that an endpoint is there.
func (r *refusals) answered(endpoint netip.AddrPort) {
	if r.known.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at.Remove(endpoint)
	r.known.Store(int32(r.at.Len()))
}

// after says whether an endpoint has refused something after a time.
func (r *refusals) after(endpoint netip.AddrPort, then time.Duration) bool {
	if r.known.Load() == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at, known := r.at.Peek(endpoint)
	return known && at > then
}

// recent are the endpoints that have refused something lately.
func (r *refusals) recent(now time.Duration) (list []netip.AddrPort) {
	if r.known.Load() == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		endpoint, at, ok := r.at.GetOldest()
		if !ok || now-at < avoidTime {
			break
		}
		r.at.Remove(endpoint)
	}
	r.known.Store(int32(r.at.Len()))
	return r.at.Keys()
}
