package balancer_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

// loaded returns a Picker of n endpoints with five connections each that last:
// an idle one would be found at once.
func loaded(t testing.TB, name string, n int) balancer.Picker {
	endpoints := balancertest.Endpoints(n)
	picker := newPolicy(t, name).Picker(endpoints)
	for i := range 5 * n {
		if chooser, ok := picker.(balancer.Chooser); ok {
			if pick := chooser.Choose(endpoints[i%n]); pick.Answered != nil {
				pick.Answered(time.Millisecond)
			}
		}
	}
	return picker
}

var ended = balancer.Outcome{Connect: time.Millisecond}

// pickAndEnd is a whole connection as a Picker sees it.
func pickAndEnd(t testing.TB, p balancer.Picker, r balancer.Request) {
	pick, err := p.Pick(r)
	if err != nil {
		t.Fatal(err)
	}
	if pick.Answered != nil {
		pick.Answered(time.Millisecond)
	}
	if pick.Done != nil {
		pick.Done(ended)
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	endpoints := balancertest.Endpoints(10)
	weighted := balancertest.Endpoints(10)
	for i := range weighted {
		weighted[i].Weight = i
	}
	for _, name := range balancer.Names() {
		for kind, picker := range map[string]balancer.Picker{
			"idle": newPolicy(t, name).Picker(endpoints), "loaded": loaded(t, name, 10), "weighted": newPolicy(t, name).Picker(weighted),
			"of four": newPolicy(t, name).Picker(endpoints[:4]),
		} {
			for _, client := range []netip.Addr{{}, clientN(1)} {
				for _, tried := range [][]netip.AddrPort{nil, {endpoints[3].Addr, endpoints[7].Addr}} {
					request := balancer.Request{Client: client, Tried: tried}
					if n := testing.AllocsPerRun(1000, func() { pickAndEnd(t, picker, request) }); n != 0 {
						t.Errorf("%s, %s: %v allocations per connection with %d tried, want 0", name, kind, n, len(tried))
					}
				}
			}
			if chooser, ok := picker.(balancer.Chooser); ok {
				n := testing.AllocsPerRun(1000, func() { chooser.Choose(endpoints[1]).Done(ended) })
				if n != 0 {
					t.Errorf("%s, %s: %v allocations per connection chosen, want 0", name, kind, n)
				}
			}
		}
	}
}

// BenchmarkPick is a pick, its answer and its end, with five other connections
// per endpoint.
func BenchmarkPick(b *testing.B) {
	request := balancer.Request{Client: clientN(1)}
	for _, name := range balancer.Names() {
		for _, n := range []int{20, 1000} {
			picker := loaded(b, name, n)
			b.Run(fmt.Sprintf("%s/alone/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					pickAndEnd(b, picker, request)
				}
			})
			b.Run(fmt.Sprintf("%s/contended/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						pickAndEnd(b, picker, request)
					}
				})
			})
		}
	}
}

// BenchmarkPicker is a change of one weight, as in a slow start.
func BenchmarkPicker(b *testing.B) {
	for _, name := range balancer.Names() {
		for _, n := range []int{20, 100, 1000, 5000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				policy, endpoints := newPolicy(b, name), balancertest.Endpoints(n)
				for i := 0; b.Loop(); i++ {
					endpoints[n/2].Weight = i % 100
					policy.Picker(endpoints)
				}
			})
		}
	}
}
