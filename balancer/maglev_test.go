package balancer_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

const clients = 100_000

// manyN returns the address of the n-th of many clients.
func manyN(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, byte(n >> 16), byte(n >> 8), byte(n)})
}

// homes returns the endpoint of each client.
func homes(t *testing.T, p balancer.Picker, tried ...netip.AddrPort) []netip.AddrPort {
	t.Helper()
	all := make([]netip.AddrPort, clients)
	for n := range all {
		pick, err := p.Pick(balancer.Request{Client: manyN(n), Tried: tried})
		if err != nil {
			t.Fatal(err)
		}
		all[n] = pick.Endpoint.Addr
	}
	return all
}

// moved returns how many of a hundred clients have another endpoint than before.
func moved(before, after []netip.AddrPort) float64 {
	n := 0
	for i := range before {
		if before[i] != after[i] {
			n++
		}
	}
	return 100 * float64(n) / float64(len(before))
}

func TestMaglevMovesFewClients(t *testing.T) {
	policy, all := newPolicy(t, "maglev"), balancertest.Endpoints(101)
	hundred := homes(t, policy.Picker(all[:100]))
	lighter := slices.Clone(all[:100])
	for i := range lighter {
		lighter[i].Weight = 10
	}
	lighter[30].Weight = 5
	for _, c := range []struct {
		what string
		set  []balancer.Endpoint
		most float64
	}{
		{"one of 100 leaves", slices.Delete(slices.Clone(all[:100]), 30, 31), 3},
		{"one joins 100", all, 3},
		{"one of 100 gets half the weight", lighter, 3},
		{"ten of 100 leave", all[10:100], 15},
		{"nothing changes", slices.Clone(all[:100]), 0},
	} {
		share := moved(hundred, homes(t, policy.Picker(c.set)))
		t.Logf("%s: %.2f %% of %d clients move", c.what, share, clients)
		if share > c.most {
			t.Errorf("%s: %.2f %% of the clients move, want %v at most", c.what, share, c.most)
		}
	}
}

func TestMaglevSharesAreEven(t *testing.T) {
	for _, n := range []int{2, 10, 100, 1000} {
		count := map[netip.AddrPort]int{}
		for _, addr := range homes(t, newPolicy(t, "maglev").Picker(balancertest.Endpoints(n))) {
			count[addr]++
		}
		most := 0
		for _, c := range count {
			most = max(most, c)
		}
		ratio := float64(most) * float64(n) / clients
		t.Logf("%d endpoints: the one with most clients has %.2f of the mean", n, ratio)
		// A mean of 100 clients is 10 off by chance alone, and 33 in one of a thousand.
		if limit := map[bool]float64{false: 1.3, true: 1.5}[n > 100]; ratio > limit || len(count) != n {
			t.Errorf("%d of %d endpoints have clients, one %.2f of the mean; want %v at most", len(count), n, ratio, limit)
		}
	}
}

// Another node, or this one after a restart.
func TestMaglevIsTheSameEverywhere(t *testing.T) {
	set := balancertest.Endpoints(10)
	here, there := homes(t, newPolicy(t, "maglev").Picker(set)), homes(t, newPolicy(t, "maglev").Picker(set))
	if share := moved(here, there); share != 0 {
		t.Errorf("%.2f %% of the clients go elsewhere from another node", share)
	}
	p := newPolicy(t, "maglev").Picker(set)
	for n := range 100 {
		pick, _ := p.Pick(balancer.Request{Client: netip.AddrFrom16(manyN(n).As16())})
		if pick.Endpoint.Addr != here[n] {
			t.Errorf("client %v goes elsewhere from an IPv6 socket", manyN(n))
		}
	}
}

func TestMaglevRetriesGoToTheSameEndpoint(t *testing.T) {
	set := balancertest.Endpoints(10)
	dead := set[3].Addr
	p := newPolicy(t, "maglev").Picker(set)
	before, first := homes(t, p), homes(t, p, dead)
	if share := moved(first, homes(t, p, dead)); share != 0 {
		t.Errorf("%.2f %% of the clients are sent to another endpoint by the same retry", share)
	}
	count := map[netip.AddrPort]int{}
	for n := range before {
		if before[n] != dead && first[n] != before[n] {
			t.Fatalf("client %v left its endpoint because of another that it never had", manyN(n))
		}
		if before[n] == dead {
			count[first[n]]++
		}
	}
	for _, e := range set {
		if n := count[e.Addr]; e.Addr != dead && (n < 900 || n > 1330) {
			t.Errorf("%v takes %d clients of the dead one, want about a ninth of %d", e.Addr, n, clients/10)
		}
	}
}

func TestMaglevOfAnUnknownClientIsRandom(t *testing.T) {
	p := newPolicy(t, "maglev").Picker(balancertest.Endpoints(3))
	if got := openAny(t, p, 100); len(got) != 3 {
		t.Errorf("100 connections went to %d of 3 endpoints", len(got))
	}
}

func openAny(t *testing.T, p balancer.Picker, n int) map[netip.AddrPort]int {
	t.Helper()
	got := map[netip.AddrPort]int{}
	for range n {
		pick, err := p.Pick(balancer.Request{})
		if err != nil {
			t.Fatal(err)
		}
		got[pick.Endpoint.Addr]++
	}
	return got
}

// A light endpoint among heavy ones, and the other way round.
func TestMaglevOfExtremeWeights(t *testing.T) {
	set := balancertest.Endpoints(5000)
	for i := range set {
		set[i].Weight = 1
	}
	set[17].Weight = 100_000
	start := time.Now()
	p := newPolicy(t, "maglev").Picker(set)
	took := time.Since(start)
	share := 100 * float64(countOf(homes(t, p), set[17].Addr)) / clients
	t.Logf("%d endpoints in %v; the heavy one has %.1f %% of the clients", len(set), took, share)
	if share < 90 || share > 97 { // 95.2 by weight, less the slot that each gets at least
		t.Errorf("the heavy one has %.1f %% of the clients, want about 92.4", share)
	}
}

func countOf(all []netip.AddrPort, addr netip.AddrPort) (n int) {
	for _, a := range all {
		if a == addr {
			n++
		}
	}
	return n
}

// Every endpoint is given, so the bigger sets do not need more slots than there
// are.
func TestMaglevOfMoreEndpointsThanSlots(t *testing.T) {
	set := make([]balancer.Endpoint, 70_000)
	for i := range set {
		set[i].Addr = netip.AddrPortFrom(manyN(i), 80)
	}
	p := newPolicy(t, "maglev").Picker(set)
	if got := homes(t, p); countOf(got, netip.AddrPort{}) != 0 {
		t.Error("a client has no endpoint")
	}
}

func TestAffinityMovesOnlyTheClientsOfAnEndpointThatLeaves(t *testing.T) {
	all := balancertest.Endpoints(100)
	policy := withAffinity{newPolicy(t, "round-robin"), balancer.NewAffinity(clients)}
	before := homes(t, policy.Picker(all))
	after := homes(t, policy.Picker(slices.Delete(slices.Clone(all), 30, 31)))
	for n := range before {
		if before[n] != all[30].Addr && after[n] != before[n] {
			t.Fatalf("client %v moved, whose endpoint did not leave", manyN(n))
		}
	}
	share := fmt.Sprintf("%.2f", moved(before, after))
	t.Logf("one of 100 leaves: %s %% of %d clients move", share, clients)
	if share != "1.00" {
		t.Errorf("%s %% of the clients moved, want 1.00: those of the one that left", share)
	}
}
