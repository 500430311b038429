package balancertest

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/usher-proxy/usher/balancer"
)

const (
	spreadOver  = 10
	spreadPicks = 10_000
)

// Spreads checks that connections of many clients are shared out: every
// endpoint gets its part, the part of a dead endpoint goes to all others, and
// neither the first connections of many nodes nor those after each change of the
// endpoints meet at one endpoint. Not every policy means to do that. The bounds are half and one and a half of the fair
// part, over five standard deviations of a random choice.
func Spreads(t *testing.T, newPolicy func() balancer.Policy) {
	t.Helper()
	runAll(t, spreads, newPolicy)
}

var spreads = []check{
	{"over all endpoints", spreadAll},
	{"a dead endpoint's part over the others", spreadRetries},
	{"the first pick of many nodes", spreadFirst},
	{"the first pick after each change", spreadChanges},
}

func spreadAll(newPolicy func() balancer.Policy) error {
	set := Endpoints(spreadOver)
	picker := newPolicy().Picker(set)
	count := map[netip.AddrPort]int{}
	for i := range spreadPicks {
		pick, err := pickFrom(picker, set, balancer.Request{Client: client(i)})
		if err != nil {
			return err
		}
		finish(pick, connected)
		count[pick.Endpoint.Addr]++
	}
	return fair(count, set, spreadPicks)
}

func spreadRetries(newPolicy func() balancer.Policy) error {
	set := Endpoints(spreadOver)
	picker := newPolicy().Picker(set)
	dead := set[4].Addr
	count := map[netip.AddrPort]int{}
	for i := range spreadPicks {
		request := balancer.Request{Client: client(i)}
		pick, err := pickFrom(picker, set, request)
		if err == nil && pick.Endpoint.Addr == dead {
			finish(pick, refused)
			request.Tried = []netip.AddrPort{dead}
			pick, err = pickFrom(picker, set, request)
		}
		if err != nil {
			return err
		}
		finish(pick, connected)
		count[pick.Endpoint.Addr]++
	}
	return fair(count, append(set[:4:4], set[5:]...), spreadPicks)
}

func spreadFirst(newPolicy func() balancer.Policy) error {
	const nodes = 400
	set := Endpoints(4)
	count := map[netip.AddrPort]int{}
	for i := range nodes {
		pick, err := pickFrom(newPolicy().Picker(set), set, balancer.Request{Client: client(i)})
		if err != nil {
			return err
		}
		finish(pick, connected)
		count[pick.Endpoint.Addr]++
	}
	return fair(count, set, nodes)
}

// spreadChanges has one connection between two changes.
func spreadChanges(newPolicy func() balancer.Policy) error {
	const changes = 400
	p, set := newPolicy(), Endpoints(4)
	count := map[netip.AddrPort]int{}
	for i := range changes {
		pick, err := pickFrom(p.Picker(set), set, balancer.Request{Client: client(i)})
		if err != nil {
			return err
		}
		finish(pick, connected)
		count[pick.Endpoint.Addr]++
	}
	return fair(count, set, changes)
}

// fair says whether each endpoint got between a half and one and a half of its
// part of the picks.
func fair(count map[netip.AddrPort]int, set []balancer.Endpoint, picks int) error {
	part := picks / len(set)
	for _, e := range set {
		if n := count[e.Addr]; n < part/2 || n > part+part/2 {
			return fmt.Errorf("%v got %d of %d connections, a fair part is %d", e.Addr, n, picks, part)
		}
	}
	return nil
}
