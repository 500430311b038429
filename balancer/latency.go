package balancer

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// latencyDecay is the time in which what is known of a latency loses 63 % of
	// its worth, Finagle's default.
	latencyDecay = 10 * time.Second
	// latencyUnknown is the latency of an endpoint from which the answer to its
	// first connection is still to come.
	latencyUnknown = time.Minute
	// latencyAvoid is how long an endpoint is avoided that could not be connected to.
	// It is short: who counts failures has to see some, and to be asked again is
	// how an endpoint shows that it is well.
	latencyAvoid = time.Second
	// latencyFew is up to how many endpoints all are compared, not only two: of
	// four with two slow ones, every sixth draw would be just these.
	latencyFew = 4
)

// latency is the power of two choices by the time that endpoints take to answer,
// in the manner of Finagle's peak EWMA: the one with the lower
// latency * (active+1) / weight, of two that are drawn by weight, or of all of a
// few. Use it where endpoints differ in speed: busy nodes, other zones, cold
// caches. It learns from answers, so it needs some of them per second to be worth
// more than p2c, and a protocol in which the endpoint says something.
//
// The latency is that of Pick.Answered. It goes up at once to a peak and down
// slowly, by an exponentially weighted moving average. After a failed connect an
// endpoint is avoided for a second; what was known of it before then counts again.
type latency struct {
	memory[*speed]
	start time.Time
}

func newLatency() *latency {
	start := time.Now()
	return &latency{newMemory(func() *speed { return newSpeed(start) }), start}
}

func (p *latency) Picker(endpoints []Endpoint) Picker {
	return &latencyPicker{newCounted(endpoints, &p.memory), p.start}
}

type latencyPicker struct {
	counted[*speed]
	start time.Time
}

func (p *latencyPicker) Pick(r Request) (Pick, error) {
	best := p.draw(r.Tried, -1)
	if best < 0 {
		return Pick{}, ErrNoEndpoints
	}
	now := time.Since(p.start)
	if n := len(p.endpoints); n > latencyFew {
		if other := p.draw(r.Tried, best); other >= 0 && p.prefers(other, best, now) {
			best = other
		}
	} else {
		for i, from := 0, rand.IntN(n); i < n; i++ {
			other := (from + i) % n
			if other != best && !slices.Contains(r.Tried, p.endpoints[other].Addr) && p.prefers(other, best, now) {
				best = other
			}
		}
	}
	return p.begin(best)
}

// prefers tells whether endpoint i is better than the one that was drawn before.
// Between two that are idle it has to be twice as fast: less is noise, and the
// draw by weight counts for more.
func (p *latencyPicker) prefers(i, drawn int, now time.Duration) bool {
	a, b := p.states[i], p.states[drawn]
	activeA, activeB := a.active.Load(), b.active.Load()
	if activeA == 0 && activeB == 0 {
		return 2*a.latency(now) < b.latency(now)
	}
	costA := a.latency(now) * float64(activeA+1) / float64(p.width(i))
	costB := b.latency(now) * float64(activeB+1) / float64(p.width(drawn))
	return costA < costB
}

// speed is what is known of how fast an endpoint answers. Times are since start,
// in nanoseconds, and 0 for never.
type speed struct {
	load
	start    time.Time
	average  atomic.Uint64 // of the latency, bits of a float64
	measured atomic.Int64  // when it last was
	picked   atomic.Int64  // when the endpoint last was
	failed   atomic.Int64  // when a connect last did, if nothing was answered since
	answered func(time.Duration)
}

func newSpeed(start time.Time) *speed {
	s := &speed{start: start}
	s.answered = s.measure
	s.done = func(o Outcome) {
		s.active.Add(-1)
		if o.Err == nil {
			return // it stood, but who knows how long ago
		}
		s.failed.Store(s.now())
		if s.average.Load() == 0 { // nothing is known of it: no answer is to come
			s.picked.Store(0)
		}
	}
	return s
}

func (s *speed) now() int64 { return max(int64(time.Since(s.start)), 1) }

func (s *speed) begin(e Endpoint) Pick {
	s.picked.Store(s.now())
	s.active.Add(1)
	return Pick{Endpoint: e, Done: s.done, Answered: s.answered}
}

// latency is the average in nanoseconds, less the longer ago the endpoint was
// picked: so a slow one gets a connection again when its time has come, and one
// only, because then it has been picked just now. The same goes for an endpoint
// that was never picked, which is to be tried first: without an answer so far it
// counts as slow.
func (s *speed) latency(now time.Duration) float64 {
	if failed := s.failed.Load(); failed != 0 && now-time.Duration(failed) < latencyAvoid {
		return math.Inf(1)
	}
	picked := s.picked.Load()
	if picked == 0 {
		return 0
	}
	average := math.Float64frombits(s.average.Load())
	if average == 0 {
		average = float64(latencyUnknown)
	}
	return average * decay(now-time.Duration(picked))
}

func decay(age time.Duration) float64 { return math.Exp(-float64(age) / float64(latencyDecay)) }

// measure lets a latency count for as much as the time since the last one: every
// moment counts for one measurement, however many come at once.
func (s *speed) measure(took time.Duration) {
	s.failed.Store(0)
	now := s.now()
	rest := decay(time.Duration(max(now-s.measured.Swap(now), 0)))
	for {
		old := s.average.Load()
		next := float64(max(took, 1))
		if average := math.Float64frombits(old); next < average {
			next += (average - next) * rest
		}
		if s.average.CompareAndSwap(old, math.Float64bits(next)) {
			return
		}
	}
}
