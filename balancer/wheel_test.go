package balancer

import (
	"math"
	"net/netip"
	"testing"
)

// share draws often, and returns how often each endpoint was drawn, in percent.
func share(w *wheel, tried []netip.AddrPort, but int) map[string]float64 {
	const draws = 100_000
	got := map[string]float64{}
	for range draws {
		if i := w.draw(tried, but); i >= 0 {
			got[w.endpoints[i].Pod] += 100.0 / draws
		}
	}
	return got
}

func TestWheelDrawsByWeightAmongWhatIsLeft(t *testing.T) {
	all := weighted(100_000, 1, 3, 6)
	even := weighted(7, 7, 7)
	tried := func(set []Endpoint, i int) []netip.AddrPort { return []netip.AddrPort{set[i].Addr} }
	for _, c := range []struct {
		name  string
		set   []Endpoint
		tried []netip.AddrPort
		but   int
		want  map[string]float64
	}{
		{"all", weighted(1, 3, 6), nil, -1, map[string]float64{"a": 10, "b": 30, "c": 60}},
		{"but the heaviest", all, nil, 0, map[string]float64{"b": 10, "c": 30, "d": 60}},
		{"the heaviest was tried", all, tried(all, 0), -1, map[string]float64{"b": 10, "c": 30, "d": 60}},
		{"but one, and another was tried", all, tried(all, 0), 3, map[string]float64{"b": 25, "c": 75}},
		{"the same weight", even, nil, 1, map[string]float64{"a": 50, "c": 50}},
		{"the same weight, one was tried", even, tried(even, 0), -1, map[string]float64{"b": 50, "c": 50}},
		{"but the only one", weighted(7), nil, 0, nil},
		{"the only one was tried", weighted(7), tried(all, 0), -1, nil},
		{"nothing", nil, nil, -1, nil},
	} {
		w := newWheel(c.set)
		got := share(&w, c.tried, c.but)
		for _, e := range c.set {
			if math.Abs(got[e.Pod]-c.want[e.Pod]) > 1 { // six standard deviations
				t.Errorf("%s: %s was drawn in %.1f %%, want %.0f", c.name, e.Pod, got[e.Pod], c.want[e.Pod])
			}
		}
	}
}
