package policies

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

// many is how many clients are to be spread.
const many = 100_000

// A mechanism makes Pickers: a policy, or one with session affinity.
type mechanism func([]balancer.Endpoint) balancer.Picker

// newMechanism is that of a policy's name; sticky adds session affinity to it.
func newMechanism(t testing.TB, policy string, sticky bool) mechanism {
	t.Helper()
	p, err := balancer.New(policy)
	must(t, err)
	if !sticky {
		return p.Picker
	}
	affinity := balancer.NewAffinity(many)
	return func(e []balancer.Endpoint) balancer.Picker { return affinity.Picker(p.Picker(e), e, time.Hour) }
}

// A movement is how many of 100,000 clients have another endpoint than before.
type movement struct {
	leaves, back, restart int
	busiest               float64 // clients of the busiest endpoint, of the mean
}

// move takes the 50th of 100 endpoints away, gives it back, and restarts.
func move(t testing.TB, policy string, sticky bool) (m movement) {
	t.Helper()
	all := balancertest.Endpoints(100)
	less := slices.Delete(slices.Clone(all), 49, 50)
	mechanism := newMechanism(t, policy, sticky)
	before := homes(t, mechanism(all))
	m.leaves = moved(before, homes(t, mechanism(less)))
	m.back = moved(before, homes(t, mechanism(all)))
	m.restart = moved(before, homes(t, newMechanism(t, policy, sticky)(all)))
	count := map[netip.AddrPort]int{}
	for _, home := range before {
		count[home]++
		m.busiest = max(m.busiest, float64(count[home])*float64(len(all))/many)
	}
	return m
}

// homes returns the endpoint of each client.
func homes(t testing.TB, p balancer.Picker) []netip.AddrPort {
	t.Helper()
	all := make([]netip.AddrPort, many)
	for n := range all {
		client := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		pick, err := p.Pick(balancer.Request{Client: client})
		must(t, err)
		if pick.Answered != nil {
			pick.Answered(time.Millisecond)
		}
		if pick.Done != nil {
			pick.Done(balancer.Outcome{Connect: time.Millisecond})
		}
		all[n] = pick.Endpoint.Addr
	}
	return all
}

func moved(before, after []netip.AddrPort) (n int) {
	for i := range before {
		if before[i] != after[i] {
			n++
		}
	}
	return n
}
