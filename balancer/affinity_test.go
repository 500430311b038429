package balancer_test

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

const timeout = 3 * time.Hour // Kubernetes' default

// clientN returns the address of the n-th client.
func clientN(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)})
}

// turns picks one endpoint after the other, from the first, and counts how
// often it was asked.
type turns struct {
	set   []balancer.Endpoint
	asked atomic.Int64
}

func (p *turns) Pick(r balancer.Request) (balancer.Pick, error) {
	turn := int(p.asked.Add(1)) - 1
	runtime.Gosched() // let others in, if they can come in
	for i := range p.set {
		e := p.set[(turn+i)%len(p.set)]
		if !slices.Contains(r.Tried, e.Addr) {
			return balancer.Pick{Endpoint: e}, nil
		}
	}
	return balancer.Pick{}, balancer.ErrNoEndpoints
}

// sticky returns a Picker with affinity that gives new clients their turns.
func sticky(a *balancer.Affinity, set []balancer.Endpoint, timeout time.Duration) balancer.Picker {
	return a.Picker(&turns{set: set}, set, timeout)
}

// connect is a connection of a client that has tried what could not be dialled.
// It returns the number of the pod and what affinity had to do with it.
func connect(t *testing.T, p balancer.Picker, client netip.Addr, tried ...balancer.Endpoint) string {
	t.Helper()
	r := balancer.Request{Client: client}
	for _, e := range tried {
		r.Tried = append(r.Tried, e.Addr)
	}
	pick, err := p.Pick(r)
	if err != nil {
		return err.Error()
	}
	if slices.Contains(tried, pick.Endpoint) {
		t.Errorf("%s was picked again", pick.Endpoint.Pod)
	}
	var pod int
	if _, err := fmt.Sscanf(pick.Endpoint.Pod, "shop/web-%d", &pod); err != nil {
		t.Errorf("pod %q: %v", pick.Endpoint.Pod, err)
	}
	return fmt.Sprint(pod, " ", pick.Affinity)
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestAffinitySendsAClientWhereItWas(t *testing.T) {
	p := sticky(balancer.NewAffinity(10), balancertest.Endpoints(3), timeout)
	expect(t, "client 1", connect(t, p, clientN(1)), "0 new")
	for range 5 {
		expect(t, "client 1 again", connect(t, p, clientN(1)), "0 hit")
	}
	// The hits took no turn from the others.
	expect(t, "client 2", connect(t, p, clientN(2)), "1 new")
	expect(t, "client 3", connect(t, p, clientN(3)), "2 new")
	expect(t, "client 2 again", connect(t, p, clientN(2)), "1 hit")
}

func TestAffinityEndsWithTheTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{timeout, 24 * time.Hour} { // Kubernetes' default, and the most that it allows
		synctest.Test(t, func(t *testing.T) {
			p := sticky(balancer.NewAffinity(10), balancertest.Endpoints(3), timeout)
			expect(t, "first connection", connect(t, p, clientN(1)), "0 new")
			for range 5 { // each of them renews it
				time.Sleep(timeout - 1)
				expect(t, "just in time", connect(t, p, clientN(1)), "0 hit")
			}
			time.Sleep(timeout)
			expect(t, "too late", connect(t, p, clientN(1)), "1 new")
			expect(t, "and then", connect(t, p, clientN(1)), "1 hit")
		})
	}
}

func TestAffinityTimeoutIsThatOfThePickerAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, set := balancer.NewAffinity(10), balancertest.Endpoints(3)
		minute, hour := sticky(a, set, time.Minute), sticky(a, set, time.Hour)
		expect(t, "with a timeout of a minute", connect(t, minute, clientN(1)), "0 new")
		time.Sleep(2 * time.Minute)
		expect(t, "raised to an hour", connect(t, hour, clientN(1)), "0 hit")
		time.Sleep(2 * time.Minute)
		expect(t, "lowered to a minute", connect(t, minute, clientN(1)), "1 new")
	})
}

func TestAffinityWithoutTimeoutRemembersNothing(t *testing.T) {
	for _, none := range []time.Duration{0, -time.Second} {
		p := sticky(balancer.NewAffinity(10), balancertest.Endpoints(2), none)
		expect(t, "first connection", connect(t, p, clientN(1)), "0 new")
		expect(t, "second connection", connect(t, p, clientN(1)), "1 new")
	}
}

func TestAffinityLeavesAnEndpointThatIsGone(t *testing.T) {
	a, set := balancer.NewAffinity(10), balancertest.Endpoints(3)
	before, without, after := sticky(a, set, timeout), sticky(a, set[1:], timeout), sticky(a, set, timeout)
	expect(t, "before", connect(t, before, clientN(1)), "0 new")
	expect(t, "without its endpoint", connect(t, without, clientN(1)), "1 broken")
	expect(t, "again", connect(t, without, clientN(1)), "1 hit")
	expect(t, "when it has come back", connect(t, after, clientN(1)), "1 hit")
}

func TestAffinityFindsAnEndpointThatCameBack(t *testing.T) {
	a, set := balancer.NewAffinity(10), balancertest.Endpoints(3)
	before, without, after := sticky(a, set, timeout), sticky(a, set[1:], timeout), sticky(a, set, timeout)
	connect(t, before, clientN(0)) // takes the turn of pod 0
	expect(t, "before", connect(t, before, clientN(1)), "1 new")
	expect(t, "another client meanwhile", connect(t, without, clientN(2)), "1 new")
	expect(t, "after", connect(t, after, clientN(1)), "1 hit")
}

func TestAffinityFindsAnEndpointAfterNobodyWasThere(t *testing.T) {
	a, set := balancer.NewAffinity(10), balancertest.Endpoints(3)
	p, empty := sticky(a, set, timeout), sticky(a, nil, timeout)
	expect(t, "before", connect(t, p, clientN(1)), "0 new")
	expect(t, "scaled to none", connect(t, empty, clientN(1)), balancer.ErrNoEndpoints.Error())
	expect(t, "after", connect(t, p, clientN(1)), "0 hit")
}

func TestAffinityIsNotRenewedByAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, set := balancer.NewAffinity(2), balancertest.Endpoints(3)
		p, empty := sticky(a, set, timeout), sticky(a, nil, timeout)
		expect(t, "client 1", connect(t, p, clientN(1)), "0 new")
		expect(t, "client 2", connect(t, p, clientN(2)), "1 new")
		time.Sleep(timeout / 2)
		expect(t, "client 1, nobody there", connect(t, empty, clientN(1)), balancer.ErrNoEndpoints.Error())
		expect(t, "client 3, who takes the place of 1", connect(t, p, clientN(3)), "2 new")
		expect(t, "client 2", connect(t, p, clientN(2)), "1 hit")
		connect(t, empty, clientN(3))
		time.Sleep(timeout / 2)
		connect(t, empty, clientN(3))
		time.Sleep(timeout / 2)
		expect(t, "client 3, a timeout after it was served", connect(t, p, clientN(3)), "0 new")
	})
}

func TestAffinityLeavesAnEndpointThatWasTried(t *testing.T) {
	set := balancertest.Endpoints(3)
	p := sticky(balancer.NewAffinity(10), set, timeout)
	expect(t, "first connection", connect(t, p, clientN(1)), "0 new")
	expect(t, "its retry", connect(t, p, clientN(1), set[0]), "1 broken")
	expect(t, "a retry of another connection of the client", connect(t, p, clientN(1), set[0]), "1 hit")
	expect(t, "next connection", connect(t, p, clientN(1)), "1 hit")
	expect(t, "all tried", connect(t, p, clientN(1), set...), balancer.ErrNoEndpoints.Error())
	expect(t, "the one after", connect(t, p, clientN(1)), "1 hit")
}

func TestAffinityIsSharedByClusterAndLocal(t *testing.T) {
	a, set := balancer.NewAffinity(10), balancertest.Endpoints(4)
	cluster, local := sticky(a, set, timeout), sticky(a, set[2:], timeout)
	expect(t, "cluster", connect(t, cluster, clientN(1)), "0 new")
	expect(t, "local, where its endpoint is not", connect(t, local, clientN(1)), "2 broken")
	expect(t, "cluster again", connect(t, cluster, clientN(1)), "2 hit")
	expect(t, "local again", connect(t, local, clientN(1)), "2 hit")
}

func TestAffinityForgetsWhoWasAwayForLongest(t *testing.T) {
	a := balancer.NewAffinity(3)
	p := sticky(a, balancertest.Endpoints(10), timeout)
	for i := range 3 {
		connect(t, p, clientN(i))
	}
	expect(t, "client 0, which is the last now", connect(t, p, clientN(0)), "0 hit")
	if a.Len() != 3 || a.Evicted() != 0 {
		t.Errorf("%d clients, %d evicted; want 3, 0", a.Len(), a.Evicted())
	}
	expect(t, "client 3, for whom there is no room", connect(t, p, clientN(3)), "3 new")
	if a.Len() != 3 || a.Evicted() != 1 {
		t.Errorf("%d clients, %d evicted; want 3, 1", a.Len(), a.Evicted())
	}
	expect(t, "client 0", connect(t, p, clientN(0)), "0 hit")
	expect(t, "client 2", connect(t, p, clientN(2)), "2 hit")
	expect(t, "client 1, who had to go", connect(t, p, clientN(1)), "4 new")
}

// What is expired goes first, and is not missed.
func TestAffinityDoesNotCountTheExpiredAsEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := balancer.NewAffinity(4)
		p := sticky(a, balancertest.Endpoints(10), timeout)
		for i := range 4 {
			connect(t, p, clientN(i))
		}
		time.Sleep(timeout)
		for i := 4; i < 8; i++ {
			connect(t, p, clientN(i))
		}
		if a.Len() != 4 || a.Evicted() != 0 {
			t.Errorf("%d clients, %d evicted; want the 4 new ones, 0", a.Len(), a.Evicted())
		}
		time.Sleep(timeout)
		connect(t, p, clientN(8))
		connect(t, p, clientN(9))
		if a.Len() != 2 {
			t.Errorf("%d clients remembered, want only the 2 of whom the timeout is not over", a.Len())
		}
	})
}

func TestAffinityOfNoSizeRemembersOneClient(t *testing.T) {
	for _, limit := range []int{0, -1} {
		p := sticky(balancer.NewAffinity(limit), balancertest.Endpoints(3), timeout)
		expect(t, "client 1", connect(t, p, clientN(1)), "0 new")
		expect(t, "client 1 again", connect(t, p, clientN(1)), "0 hit")
		expect(t, "client 2", connect(t, p, clientN(2)), "1 new")
		expect(t, "client 1 once more", connect(t, p, clientN(1)), "2 new")
	}
}

func TestAffinityOfAClientNotKnown(t *testing.T) {
	a := balancer.NewAffinity(10)
	p := sticky(a, balancertest.Endpoints(3), timeout)
	expect(t, "one", connect(t, p, netip.Addr{}), "0 ")
	expect(t, "another", connect(t, p, netip.Addr{}), "1 ")
	if a.Len() != 0 {
		t.Errorf("%d clients are remembered, want 0", a.Len())
	}
}

func TestAffinityKnowsAnIPv4ClientOnAnIPv6Socket(t *testing.T) {
	p := sticky(balancer.NewAffinity(10), balancertest.Endpoints(3), timeout)
	expect(t, "IPv4", connect(t, p, clientN(1)), "0 new")
	expect(t, "IPv4 mapped to IPv6", connect(t, p, netip.AddrFrom16(clientN(1).As16())), "0 hit")
}

// The first connections of each client come at the same moment, through two
// Pickers.
func TestAffinityBindsOnceHoweverManyComeTogether(t *testing.T) {
	const clients, connections = 100, 16
	a, next := balancer.NewAffinity(clients), &turns{set: balancertest.Endpoints(7)}
	pickers := []balancer.Picker{a.Picker(next, next.set, timeout), a.Picker(next, next.set, timeout)}
	for c := range clients {
		start, got := make(chan struct{}), make(chan string, connections)
		for i := range connections {
			go func() {
				<-start
				got <- connect(t, pickers[i%2], clientN(c))
			}()
		}
		close(start)
		count := map[string]int{}
		for range connections {
			count[<-got]++
		}
		pod := c % len(next.set) // one turn for each client
		if count[fmt.Sprint(pod, " new")] != 1 || count[fmt.Sprint(pod, " hit")] != connections-1 {
			t.Errorf("client %d: got %v, want %d for all, new for one", c, count, pod)
		}
	}
	if n := next.asked.Load(); n != clients {
		t.Errorf("the policy was asked %d times for %d clients", n, clients)
	}
}

// Clients come, retry and are forgotten while the endpoints change.
func TestAffinityStaysWithinTheSetAndTheLimit(t *testing.T) {
	const workers, rounds, limit = 8, 500, 20
	all := balancertest.Endpoints(10)
	a := balancer.NewAffinity(limit)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				set := all[i%5 : i%5+1+w%5]
				p := sticky(a, set, timeout)
				r := balancer.Request{Client: clientN((w + i) % (2 * limit))}
				for range set {
					pick, err := p.Pick(r)
					if err != nil || !slices.Contains(set, pick.Endpoint) || slices.Contains(r.Tried, pick.Endpoint.Addr) {
						t.Errorf("picked %v (%v) of %v, tried %v", pick.Endpoint, err, set, r.Tried)
					}
					r.Tried = append(r.Tried, pick.Endpoint.Addr)
				}
				if n := a.Len(); n > limit {
					t.Errorf("%d clients are remembered, the limit is %d", n, limit)
				}
			}
		})
	}
	wg.Wait()
	if a.Evicted() == 0 {
		t.Error("nobody was forgotten, of twice as many clients as the limit")
	}
}

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
		for _, limit := range []int{1, 4, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d clients", name, limit), func(t *testing.T) {
				factory := func() balancer.Policy { return withAffinity{newPolicy(t, name), balancer.NewAffinity(limit)} }
				balancertest.Run(t, factory)
				balancertest.Spreads(t, factory)
			})
		}
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
