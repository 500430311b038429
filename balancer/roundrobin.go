package balancer

import (
	"math/rand/v2"
	"sync/atomic"
)

// roundRobin gives every endpoint its turn, and as many turns as it has weight.
// Use it unless there is a reason for another: it is the cheapest and the most
// even where connections are alike.
//
// The rotation goes on where it was when the endpoints change: starting over at
// each change would send all that churn brings to the first endpoints.
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
	return &roundRobinPicker{turn: &p.turn, wheel: newWheel(endpoints)}
}

type roundRobinPicker struct {
	turn *atomic.Uint64 // of the Policy
	wheel
}

// Pick takes the next turn. A retry takes none and picks at random instead:
// with one of two endpoints dead, a retry that took a turn would leave every
// new connection to begin with the dead one; and one that took the next in
// line would give that neighbour the dead one's whole share.
func (p *roundRobinPicker) Pick(r Request) (Pick, error) {
	if len(r.Tried) > 0 {
		return p.pickRandom(r)
	}
	if len(p.endpoints) == 0 {
		return Pick{}, ErrNoEndpoints
	}
	return Pick{Endpoint: p.endpoints[p.next(p.turn.Add(1))]}, nil
}

// goldenStep is 2^64 divided by the golden ratio.
const goldenStep = 0x9e3779b97f4a7c15

// next returns whose turn it is. With different weights a turn goes on round
// the wheel by the golden ratio: of all steps it is the one that spreads its
// points most evenly, however many (a Kronecker sequence of low discrepancy),
// so an endpoint of weight 3 among lighter ones does not get its three in a row.
func (p *roundRobinPicker) next(turn uint64) int {
	if p.even() {
		return int(turn % uint64(len(p.endpoints)))
	}
	return p.at(turn * goldenStep)
}
