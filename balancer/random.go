package balancer

import (
	"math/rand/v2"
	"net/netip"
	"slices"
)

// random picks uniformly among the endpoints that were not tried. It remembers
// nothing.
type random struct{}

func (random) Picker(endpoints []Endpoint) Picker { return randomPicker(endpoints) }

type randomPicker []Endpoint

func (p randomPicker) Pick(r Request) (Pick, error) { return pickRandom(p, r.Tried) }

// pickRandom counts what is left, draws a number below that, and walks to it:
// uniform, without a copy of the set.
func pickRandom(endpoints []Endpoint, tried []netip.AddrPort) (Pick, error) {
	left := len(endpoints)
	if len(tried) > 0 {
		left = countUntried(endpoints, tried)
	}
	if left == 0 {
		return Pick{}, ErrNoEndpoints
	}
	n := rand.IntN(left)
	if left == len(endpoints) {
		return Pick{Endpoint: endpoints[n]}, nil
	}
	return Pick{Endpoint: endpoints[nthUntried(endpoints, tried, n)]}, nil
}

func countUntried(endpoints []Endpoint, tried []netip.AddrPort) (count int) {
	for i := range endpoints {
		if !slices.Contains(tried, endpoints[i].Addr) {
			count++
		}
	}
	return count
}

// nthUntried returns the index of the untried endpoint before which there are
// n others.
func nthUntried(endpoints []Endpoint, tried []netip.AddrPort, n int) int {
	for i := range endpoints {
		if slices.Contains(tried, endpoints[i].Addr) {
			continue
		}
		if n == 0 {
			return i
		}
		n--
	}
	panic("balancer: fewer endpoints left than were counted")
}
