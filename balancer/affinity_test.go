package balancer_test

import (
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
