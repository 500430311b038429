package balancer_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

// counting counts the connections of its endpoint that have not ended.
type counting struct {
	turns
	open   int
	chosen []string
}

func (c *counting) Pick(r balancer.Request) (balancer.Pick, error) {
	pick, err := c.turns.Pick(r)
	c.open++
	pick.Done = func(balancer.Outcome) { c.open-- }
	return pick, err
}

func (c *counting) Choose(e balancer.Endpoint) balancer.Pick {
	c.chosen = append(c.chosen, e.Pod)
	c.open++
	return balancer.Pick{Endpoint: e, Done: func(balancer.Outcome) { c.open-- }}
}

func TestAffinityTellsAChooserOfItsHits(t *testing.T) {
	set := balancertest.Endpoints(3)
	policy := &counting{turns: turns{set: set}}
	p := balancer.NewAffinity(10).Picker(policy, set, timeout)
	var done []func(balancer.Outcome)
	for _, want := range []balancer.AffinityResult{balancer.AffinityNew, balancer.AffinityHit, balancer.AffinityHit} {
		pick, err := p.Pick(balancer.Request{Client: clientN(1)})
		if err != nil || pick.Endpoint != set[0] || pick.Affinity != want || pick.Done == nil {
			t.Fatalf("picked %+v (%v), want %s of %s, with Done", pick, err, want, set[0].Pod)
		}
		done = append(done, pick.Done)
	}
	if policy.open != 3 || policy.asked.Load() != 1 || !slices.Equal(policy.chosen, []string{set[0].Pod, set[0].Pod}) {
		t.Errorf("%d open, asked %d times, told of %v; want 3, 1, the two hits", policy.open, policy.asked.Load(), policy.chosen)
	}
	for _, end := range done {
		end(balancer.Outcome{})
	}
	if policy.open != 0 {
		t.Errorf("%d open after all ended", policy.open)
	}
}

// failing is a policy with a fault, until it is mended.
type failing struct {
	turns
	fail func() error
}

func (f *failing) Pick(r balancer.Request) (balancer.Pick, error) {
	if f.fail != nil {
		return balancer.Pick{Endpoint: f.set[0]}, f.fail()
	}
	return f.turns.Pick(r)
}

func TestAffinityOutlivesAFaultOfThePolicy(t *testing.T) {
	fault := errors.New("out of order")
	for name, fail := range map[string]func() error{
		"error": func() error { return fault },
		"panic": func() error { panic(fault) },
	} {
		t.Run(name, func(t *testing.T) {
			a := balancer.NewAffinity(10)
			policy := &failing{turns: turns{set: balancertest.Endpoints(3)}, fail: fail}
			p := a.Picker(policy, policy.set, timeout)
			func() {
				defer func() { recover() }()
				if _, err := p.Pick(balancer.Request{Client: clientN(1)}); err != fault {
					t.Errorf("got error %v, want that of the policy", err)
				}
			}()
			policy.fail = nil
			expect(t, "after the fault", connect(t, p, clientN(1)), "0 new")
			expect(t, "and again", connect(t, p, clientN(1)), "0 hit")
		})
	}
}

// withAffinity is a Policy whose Pickers share a memory.
type withAffinity struct {
	balancer.Policy
	memory *balancer.Affinity
}

func (p withAffinity) Picker(set []balancer.Endpoint) balancer.Picker {
	return p.memory.Picker(p.Policy.Picker(set), set, timeout)
}

func TestAffinityKeepsTheContract(t *testing.T) {
	for _, name := range balancer.Names() {
		limits := []int{4}
		if name == "round-robin" {
			limits = []int{1, 4, 1 << 20}
		}
		for _, limit := range limits {
			t.Run(fmt.Sprintf("%s/%d clients", name, limit), func(t *testing.T) {
				balancertest.Run(t, func() balancer.Policy {
					return withAffinity{newPolicy(t, name), balancer.NewAffinity(limit)}
				})
			})
		}
	}
}

func TestAffinitySpreadsAsThePolicyDoes(t *testing.T) {
	for _, name := range []string{"round-robin", "least-connections"} {
		t.Run(name, func(t *testing.T) {
			factory := func() balancer.Policy { return withAffinity{newPolicy(t, name), balancer.NewAffinity(4)} }
			balancertest.Spreads(t, factory)
			balancertest.Weighs(t, factory)
		})
	}
}

func TestAffinityHitAllocatesNothing(t *testing.T) {
	set := balancertest.Endpoints(10)
	a := balancer.NewAffinity(10)
	r := balancer.Request{Client: clientN(1), Tried: []netip.AddrPort{set[5].Addr}}
	p := sticky(a, set, timeout)
	expect(t, "first connection", connect(t, p, r.Client), "0 new")
	if allocs := testing.AllocsPerRun(1000, func() { p.Pick(r) }); allocs != 0 {
		t.Errorf("%v allocations per hit, want 0", allocs)
	}
	expect(t, "last connection", connect(t, p, r.Client), "0 hit")
}

func BenchmarkAffinity(b *testing.B) {
	const limit = 1 << 14
	set := balancertest.Endpoints(10)
	remembering := func(b *testing.B) balancer.Picker {
		p := withAffinity{newPolicy(b, "round-robin"), balancer.NewAffinity(limit)}.Picker(set)
		for i := range limit {
			p.Pick(balancer.Request{Client: clientN(i)})
		}
		b.ReportAllocs()
		b.ResetTimer()
		return p
	}
	b.Run("hit", func(b *testing.B) {
		p := remembering(b)
		for i := 0; b.Loop(); i++ {
			p.Pick(balancer.Request{Client: clientN(i % limit)})
		}
	})
	b.Run("miss", func(b *testing.B) { // each evicts one that comes again
		p := remembering(b)
		for i := limit; b.Loop(); i++ {
			p.Pick(balancer.Request{Client: clientN(i % (2 * limit))})
		}
	})
	b.Run("contended", func(b *testing.B) {
		p := remembering(b)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				p.Pick(balancer.Request{Client: clientN(i % limit)})
			}
		})
	})
}

func ExampleAffinity() {
	policy, _ := balancer.New("round-robin")
	endpoints := balancertest.Endpoints(3)

	affinity := balancer.NewAffinity(10_000)
	picker := affinity.Picker(policy.Picker(endpoints), endpoints, 3*time.Hour)
	request := balancer.Request{Client: netip.MustParseAddr("192.0.2.1")}
	first, _ := picker.Pick(request)
	second, _ := picker.Pick(request)
	fmt.Println(first.Affinity, second.Affinity, first.Endpoint == second.Endpoint)
	// Output: new hit true
}
