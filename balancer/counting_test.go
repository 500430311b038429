package balancer_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

// open begins connections that last, and returns them by endpoint.
func open(t *testing.T, p balancer.Picker, n int) map[netip.AddrPort][]balancer.Pick {
	t.Helper()
	got := map[netip.AddrPort][]balancer.Pick{}
	for range n {
		pick, err := p.Pick(balancer.Request{})
		if err != nil {
			t.Fatal(err)
		}
		got[pick.Endpoint.Addr] = append(got[pick.Endpoint.Addr], pick)
	}
	return got
}

func end(picks []balancer.Pick) {
	for _, p := range picks {
		p.Done(balancer.Outcome{})
	}
}

// One of two endpoints is unready for a moment, and its connections last.
func TestCountsSurviveAChangeOfTheEndpoints(t *testing.T) {
	for _, name := range []string{"least-connections", "p2c", "latency"} {
		t.Run(name, func(t *testing.T) {
			policy, set := newPolicy(t, name), balancertest.Endpoints(2)
			a, b := set[0].Addr, set[1].Addr
			onA := open(t, policy.Picker(set[:1]), 10)[a]
			open(t, policy.Picker(set[1:]), 2)
			open(t, policy.Picker(nil), 0)

			back := policy.Picker(set)
			if got := open(t, back, 8); len(got[b]) != 8 {
				t.Errorf("the endpoint whose connections last got %d of 8, want 0: the other had only two", len(got[a]))
			}
			end(onA) // of a Picker replaced long ago
			if got := open(t, policy.Picker(set), 9); len(got[a]) != 9 {
				t.Errorf("the endpoint whose connections ended got %d of 9, want all", len(got[a]))
			}
		})
	}
}

func TestCountsAreOfHitsOfAffinityToo(t *testing.T) {
	for _, name := range []string{"least-connections", "p2c"} {
		t.Run(name, func(t *testing.T) {
			set := balancertest.Endpoints(2)
			p := withAffinity{newPolicy(t, name), balancer.NewAffinity(10)}.Picker(set)
			var at netip.AddrPort
			for range 5 { // all of one client
				pick, err := p.Pick(balancer.Request{Client: clientN(1)})
				if err != nil {
					t.Fatal(err)
				}
				at = pick.Endpoint.Addr
			}
			for i := range 5 {
				if pick, _ := p.Pick(balancer.Request{Client: clientN(2 + i)}); pick.Endpoint.Addr == at {
					t.Errorf("client %d was sent to the endpoint with five connections", 2+i)
				}
			}
		})
	}
}

func TestLeastConnectionsFillsANewEndpointUpToTheOthers(t *testing.T) {
	policy, set := newPolicy(t, "least-connections"), balancertest.Endpoints(4)
	open(t, policy.Picker(set[:3]), 30)
	with := policy.Picker(set)
	if got := open(t, with, 10); len(got[set[3].Addr]) != 10 {
		t.Errorf("the new one got %d of the first 10 connections, want all: the others have 10 each", len(got[set[3].Addr]))
	}
	for addr, picks := range open(t, with, 40) {
		if len(picks) != 10 {
			t.Errorf("%v got %d of the next 40, want 10", addr, len(picks))
		}
	}
}

// In a slow start the weight of a new endpoint grows from 1 to that of the
// others, in one Picker after the other.
func TestLeastConnectionsWithASlowStart(t *testing.T) {
	policy, set := newPolicy(t, "least-connections"), balancertest.Endpoints(4)
	for i := range set {
		set[i].Weight = 100
	}
	open(t, policy.Picker(set[:3]), 30)
	total := 0
	for _, step := range []struct{ weight, least, most int }{{1, 0, 0}, {10, 1, 2}, {50, 5, 9}, {100, 19, 20}} {
		now := slices.Clone(set)
		now[3].Weight = step.weight
		total += len(open(t, policy.Picker(now), 12)[set[3].Addr])
		if total < step.least || total > step.most {
			t.Errorf("at weight %d the new endpoint has %d connections, want %d to %d", step.weight, total, step.least, step.most)
		}
	}
}

// All have one connection, and another comes and goes: none may be favoured for
// being the first.
func TestTiesAreBrokenAtRandom(t *testing.T) {
	for _, name := range []string{"least-connections", "p2c"} {
		t.Run(name, func(t *testing.T) {
			const picks = 10_000
			set := balancertest.Endpoints(10)
			p := newPolicy(t, name).Picker(set)
			for _, e := range set {
				p.(balancer.Chooser).Choose(e)
			}
			count := map[netip.AddrPort]int{}
			for range picks {
				for addr, pick := range open(t, p, 1) {
					count[addr]++
					end(pick)
				}
			}
			for _, e := range set {
				if n := count[e.Addr]; n < 800 || n > 1200 { // nearly seven standard deviations
					t.Errorf("%s got %d of %d connections, want about a tenth", e.Pod, n, picks)
				}
			}
		})
	}
}

// Two of forty have fewer connections: hardly found by chance.
func TestTheFewThatAreBestAllGetConnections(t *testing.T) {
	set := balancertest.Endpoints(40)
	p := newPolicy(t, "least-connections").Picker(set)
	for i, e := range set {
		for range map[bool]int{true: 1, false: 3}[i == 5 || i == 30] {
			p.(balancer.Chooser).Choose(e)
		}
	}
	got := map[netip.AddrPort]int{}
	for range 1000 {
		for addr, pick := range open(t, p, 1) {
			got[addr]++
			end(pick)
		}
	}
	if a, b := got[set[5].Addr], got[set[30].Addr]; a+b != 1000 || a < 200 || b < 200 {
		t.Errorf("the two that are best got %d and %d of 1000 connections, want all between them", a, b)
	}
}

// A heavy endpoint with a connection may still be better than a light one that
// has none: 2/100 is less than 1/40.
func TestIdleIsNotAlwaysBest(t *testing.T) {
	for _, name := range []string{"least-connections", "p2c"} {
		t.Run(name, func(t *testing.T) {
			set := balancertest.Endpoints(2)
			set[0].Weight, set[1].Weight = 40, 100
			p := newPolicy(t, name).Picker(set)
			p.(balancer.Chooser).Choose(set[1])
			for range 100 {
				got := open(t, p, 1)
				if len(got[set[0].Addr]) > 0 {
					t.Fatal("the light one was picked")
				}
				end(got[set[1].Addr])
			}
		})
	}
}

func TestChoosingAForeignEndpointIsHarmless(t *testing.T) {
	for _, name := range balancer.Names() {
		if p, ok := newPolicy(t, name).Picker(nil).(balancer.Chooser); ok {
			e := balancertest.Endpoints(1)[0]
			if pick := p.Choose(e); pick.Endpoint != e {
				t.Errorf("%s: chose %v", name, pick.Endpoint)
			}
		}
	}
}
