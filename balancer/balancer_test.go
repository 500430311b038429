package balancer_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

func newPolicy(t testing.TB, name string) balancer.Policy {
	t.Helper()
	p, err := balancer.New(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBuiltIns(t *testing.T) {
	for _, name := range balancer.Names() {
		t.Run(name, func(t *testing.T) {
			factory := func() balancer.Policy { return newPolicy(t, name) }
			balancertest.Run(t, factory)
			t.Run("spreads", func(t *testing.T) { balancertest.Spreads(t, factory) })
		})
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	endpoints := balancertest.Endpoints(10)
	for _, name := range balancer.Names() {
		picker := newPolicy(t, name).Picker(endpoints)
		for _, tried := range [][]netip.AddrPort{nil, {endpoints[3].Addr, endpoints[7].Addr}} {
			request := balancer.Request{Tried: tried}
			allocs := testing.AllocsPerRun(1000, func() { picker.Pick(request) })
			if allocs != 0 {
				t.Errorf("%s: %v allocations per pick with %d tried, want 0", name, allocs, len(tried))
			}
		}
	}
}

func TestNewNamesTheKnownPolicies(t *testing.T) {
	_, err := balancer.New("fastest")
	if err == nil {
		t.Fatal("an unknown name made a policy")
	}
	for _, want := range append(balancer.Names(), `"fastest"`) {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %s", err, want)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	endpoints := balancertest.Endpoints(10)
	requests := map[string]balancer.Request{
		"first": {},
		"retry": {Tried: []netip.AddrPort{endpoints[0].Addr}},
	}
	for _, name := range balancer.Names() {
		picker := newPolicy(b, name).Picker(endpoints)
		for attempt, request := range requests {
			b.Run(name+"/"+attempt+"/alone", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					picker.Pick(request)
				}
			})
			b.Run(name+"/"+attempt+"/contended", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						picker.Pick(request)
					}
				})
			})
		}
	}
}
