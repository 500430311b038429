package balancertest

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

const weighPicks = 20_000

// Weighs checks that the shares of connections of many clients follow the
// weights of the endpoints, which answer equally fast: of connections that end
// at once, of such that last, of retries, and when the weights change. Not every
// policy means to do that. The bounds are three quarters and five quarters of an
// endpoint's part, over five standard deviations of a random choice.
func Weighs(t *testing.T, newPolicy func() balancer.Policy) {
	t.Helper()
	runAll(t, weighs, newPolicy)
}

var weighs = []check{
	{"weights of connections that end", weighEnding},
	{"weights of connections that last", weighLasting},
	{"weights of the others after a dead endpoint", weighRetries},
	{"weights that change", weighChanged},
	{"weights below 1 count as 1", weighNone},
	{"a thousandfold weight", weighFar},
}

// answered is the end of a good connection.
func answered(p balancer.Pick) {
	if p.Answered != nil {
		p.Answered(5 * time.Millisecond)
	}
	finish(p, connected)
}

func last(balancer.Pick) {}

func weighEnding(newPolicy func() balancer.Policy) error {
	set := weighted(2, 6, 1, 3, 2, 4)
	return weigh(newPolicy().Picker(set), set, set, answered)
}

func weighLasting(newPolicy func() balancer.Policy) error {
	set := weighted(2, 6, 1, 3, 2, 4)
	return weigh(newPolicy().Picker(set), set, set, last)
}

func weighRetries(newPolicy func() balancer.Policy) error {
	set := weighted(8, 2, 6, 1, 3, 2, 4)
	return weigh(newPolicy().Picker(set), set, set[1:], answered)
}

// weighChanged reverses the weights of endpoints that have connections.
func weighChanged(newPolicy func() balancer.Policy) error {
	p := newPolicy()
	set := weighted(1, 2, 3, 4)
	if err := weigh(p.Picker(set), set, set, answered); err != nil {
		return err
	}
	set = weighted(4, 3, 2, 1)
	return weigh(p.Picker(set), set, set, answered)
}

func weighNone(newPolicy func() balancer.Policy) error {
	set := weighted(0, -7, 1, math.MinInt)
	return weigh(newPolicy().Picker(set), set, set, answered)
}

// weighFar allows one in a hundred for what should be one in a thousand: a
// policy may round weights up.
func weighFar(newPolicy func() balancer.Policy) error {
	set := weighted(100_000, 100)
	picker := newPolicy().Picker(set)
	light := 0
	for i := range weighPicks {
		pick, err := pickFrom(picker, set, balancer.Request{Client: client(i)})
		if err != nil {
			return err
		}
		answered(pick)
		if pick.Endpoint == set[1] {
			light++
		}
	}
	if light > weighPicks/100 {
		return fmt.Errorf("an endpoint with a thousandth of the weight got %d of %d connections", light, weighPicks)
	}
	return nil
}

// weigh connects until each pick is an alive one, and compares the shares of
// those with their weights.
func weigh(picker balancer.Picker, set, alive []balancer.Endpoint, end func(balancer.Pick)) error {
	dead := addrs(set[:len(set)-len(alive)])
	count := map[netip.AddrPort]int{}
	for i := range weighPicks {
		pick, err := pickFrom(picker, set, balancer.Request{Client: client(i), Tried: dead})
		if err != nil {
			return err
		}
		end(pick)
		count[pick.Endpoint.Addr]++
	}
	sum := 0
	for _, e := range alive {
		sum += max(e.Weight, 1)
	}
	for _, e := range alive {
		part := weighPicks * max(e.Weight, 1) / sum
		if n := count[e.Addr]; n < part*3/4 || n > part*5/4 {
			return fmt.Errorf("%v with weight %d of %d got %d of %d connections, its part is %d",
				e.Addr, e.Weight, sum, n, weighPicks, part)
		}
	}
	return nil
}
