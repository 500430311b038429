package balancer_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

// zoneFirst is a complete policy: it fills one zone first, and leaves it only
// for what could not be reached there.
type zoneFirst struct{ zone string }

func (z zoneFirst) Picker(endpoints []balancer.Endpoint) balancer.Picker {
	sorted := slices.Clone(endpoints) // the slice is not ours to sort
	slices.SortStableFunc(sorted, func(a, b balancer.Endpoint) int {
		return cmp.Compare(z.distance(a), z.distance(b))
	})
	return inOrder(sorted)
}

func (z zoneFirst) distance(e balancer.Endpoint) int {
	if e.Zone == z.zone {
		return 0
	}
	return 1
}

// inOrder picks the first endpoint that was not tried.
type inOrder []balancer.Endpoint

func (p inOrder) Pick(r balancer.Request) (balancer.Pick, error) {
	for _, e := range p {
		if !slices.Contains(r.Tried, e.Addr) {
			return balancer.Pick{Endpoint: e}, nil
		}
	}
	return balancer.Pick{}, balancer.ErrNoEndpoints
}

func Example() {
	var policy balancer.Policy = zoneFirst{zone: "b"}
	picker := policy.Picker([]balancer.Endpoint{
		{Addr: netip.MustParseAddrPort("10.1.0.1:80"), Pod: "shop/web-1", Zone: "a"},
		{Addr: netip.MustParseAddrPort("10.1.0.2:80"), Pod: "shop/web-2", Zone: "b"},
	})

	var tried []netip.AddrPort
	for {
		pick, err := picker.Pick(balancer.Request{Tried: tried})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(pick.Endpoint.Pod)
		tried = append(tried, pick.Endpoint.Addr) // say that it could not be dialled
	}
	// Output:
	// shop/web-2
	// shop/web-1
	// no endpoint left to pick
}

// A policy of your own gets the whole conformance suite in one line.
func TestZoneFirst(t *testing.T) {
	balancertest.Run(t, func() balancer.Policy { return zoneFirst{zone: "b"} })
}
