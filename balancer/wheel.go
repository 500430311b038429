package balancer

import (
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// maxWeight is what a greater weight counts as. It keeps sums and products of
// weights far from an overflow.
const maxWeight = 100_000

func weight(e *Endpoint) uint64 { return uint64(min(max(e.Weight, 1), maxWeight)) }

// wheel draws endpoints by weight, like a roulette wheel whose pockets are as
// wide as the weights. It takes 8 bytes per endpoint, whatever the weights.
type wheel struct {
	endpoints []Endpoint
	ends      []uint64 // where each pocket ends; nil if all are of the same width
}

func newWheel(endpoints []Endpoint) wheel {
	ends, end, even := make([]uint64, len(endpoints)), uint64(0), true
	for i := range endpoints {
		w := weight(&endpoints[i])
		end += w
		ends[i] = end
		even = even && w == ends[0]
	}
	if even {
		ends = nil
	}
	return wheel{endpoints, ends}
}

// even tells whether all endpoints have the same weight.
func (w *wheel) even() bool { return w.ends == nil }

func (w *wheel) end(i int) uint64 {
	switch {
	case w.even():
		return uint64(i + 1)
	case i < 0:
		return 0
	}
	return w.ends[i]
}

// width returns the weight of an endpoint, in the wheel's own unit.
func (w *wheel) width(i int) uint64 {
	if w.even() {
		return 1
	}
	return w.end(i) - w.end(i-1)
}

// at returns the endpoint at a point of the wheel, point/2^64 of the way round.
// The wheel must not be empty.
func (w *wheel) at(point uint64) int {
	return w.holds(below(point, w.end(len(w.endpoints)-1)))
}

// holds returns the endpoint in whose pocket a place is.
func (w *wheel) holds(place uint64) int {
	if w.even() {
		return int(place)
	}
	i, _ := slices.BinarySearch(w.ends, place+1)
	return i
}

// draw returns an endpoint at random by weight, neither of those tried nor the
// one with the number but (none is -1), and -1 if nothing is left.
func (w *wheel) draw(tried []netip.AddrPort, but int) int {
	total, start, width := w.end(len(w.endpoints)-1), uint64(0), uint64(0)
	if but >= 0 {
		start, width = w.end(but-1), w.width(but)
	}
	if total == width {
		return -1
	}
	for range 8 { // mostly the first will do
		place := below(rand.Uint64(), total-width)
		if but >= 0 && place >= start {
			place += width // step over its pocket
		}
		if i := w.holds(place); !slices.Contains(tried, w.endpoints[i].Addr) {
			return i
		}
	}
	return w.drawLeft(tried, but)
}

// drawLeft is draw where hardly anything is left: it looks at every endpoint.
func (w *wheel) drawLeft(tried []netip.AddrPort, but int) int {
	drawn, sum := -1, uint64(0)
	for i := range w.endpoints {
		if i == but || slices.Contains(tried, w.endpoints[i].Addr) {
			continue
		}
		sum += w.width(i)
		if below(rand.Uint64(), sum) < w.width(i) {
			drawn = i
		}
	}
	return drawn
}

// below turns a random number of 64 bits into one below n.
func below(random, n uint64) uint64 {
	high, _ := bits.Mul64(random, n)
	return high
}
