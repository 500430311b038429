package balancer

import (
	"math/rand/v2"
	"sync/atomic"
)

// roundRobin gives every endpoint its turn. The rotation goes on where it was
// when the endpoints change: starting over at each change would send all that
// churn brings to the first endpoints.
type roundRobin struct {
	turn atomic.Uint64
}

// newRoundRobin starts at a random turn, so that the nodes of a cluster do not
// all send their first connection to the same pod.
func newRoundRobin() *roundRobin {
	p := new(roundRobin)
	p.turn.Store(rand.Uint64())
	return p
}

func (p *roundRobin) Picker(endpoints []Endpoint) Picker {
	return &roundRobinPicker{turn: &p.turn, endpoints: endpoints}
}

type roundRobinPicker struct {
	turn      *atomic.Uint64 // of the Policy
	endpoints []Endpoint
}

// Pick takes the next turn. A retry takes none and picks at random instead:
// with one of two endpoints dead, a retry that took a turn would leave every
// new connection to begin with the dead one; and one that took the next in
// line would give that neighbour the dead one's whole share.
func (p *roundRobinPicker) Pick(r Request) (Pick, error) {
	if len(r.Tried) > 0 {
		return pickRandom(p.endpoints, r.Tried)
	}
	if len(p.endpoints) == 0 {
		return Pick{}, ErrNoEndpoints
	}
	turn := p.turn.Add(1)
	return Pick{Endpoint: p.endpoints[turn%uint64(len(p.endpoints))]}, nil
}
