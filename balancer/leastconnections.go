package balancer

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// leastConnections picks the endpoint with the fewest connections for its
// weight, (active+1)/weight, and at random by weight where several have the
// same. Use it where connections last long and differently so: databases,
// websockets, streams.
//
// It looks at every endpoint, unless an idle one is found at once; see p2c for
// sets of thousands. The counts are this node's own. An endpoint that just came
// has none, so new connections go to it until it has as many as the others; to
// give it fewer at the beginning, give it less weight. One that refuses has none
// either, and is tried first by all until its health keeps it out of the set.
type leastConnections struct{ memory[*load] }

func newLeastConnections() *leastConnections { return &leastConnections{newMemory(newLoad)} }

func (p *leastConnections) Picker(endpoints []Endpoint) Picker {
	return &leastConnectionsPicker{newCounted(endpoints, &p.memory)}
}

type leastConnectionsPicker struct{ counted[*load] }

// Pick finds out how good the best endpoint is, and draws among those that are as
// good: always the first of them would get the connections of many at once. If
// all weigh the same nothing is better than idle.
func (p *leastConnectionsPicker) Pick(r Request) (Pick, error) {
	if len(p.endpoints) == 0 {
		return Pick{}, ErrNoEndpoints
	}
	if p.even() {
		if i := p.drawLike(standing{width: 1}, r.Tried); i >= 0 {
			return p.begin(i)
		}
	}
	best := p.best(r.Tried)
	if best < 0 {
		return Pick{}, ErrNoEndpoints
	}
	if i := p.drawLike(p.standing(best), r.Tried); i >= 0 {
		best = i
	}
	return p.begin(best)
}

// standing is how an endpoint stands among the others.
type standing struct {
	active int64
	width  uint64
}

func (p *leastConnectionsPicker) standing(i int) standing {
	return standing{p.states[i].active.Load(), p.width(i)}
}

// asGood tells whether an endpoint is as good as another. All that are idle are:
// else the heaviest would get everything where there is one connection at a time.
func (s standing) asGood(other standing) bool {
	if s.active == 0 && other.active == 0 {
		return true
	}
	return !less(other.active, other.width, s.active, s.width)
}

// drawLike returns an endpoint that is as good, at random by weight, and -1 if it
// finds none in a few draws.
func (p *leastConnectionsPicker) drawLike(like standing, tried []netip.AddrPort) int {
	for range 4 {
		i := p.at(rand.Uint64())
		if p.standing(i).asGood(like) && !slices.Contains(tried, p.endpoints[i].Addr) {
			return i
		}
	}
	return -1
}

// best returns the endpoint with the least load, the first from anywhere if there
// are several, and -1 if all were tried.
func (p *leastConnectionsPicker) best(tried []netip.AddrPort) int {
	best, least := -1, standing{math.MaxInt32, 1}
	from := rand.IntN(len(p.states))
	for n := range p.states {
		i := n + from
		if i >= len(p.states) {
			i -= len(p.states)
		}
		active, width := p.states[i].active.Load(), p.width(i)
		if less(active, width, least.active, least.width) && !slices.Contains(tried, p.endpoints[i].Addr) {
			best, least = i, standing{active, width}
		}
	}
	return best
}
