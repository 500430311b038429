package balancertest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/usher-proxy/usher/balancer"
)

// Endpoints returns n different endpoints, IPv4 and IPv6 by turns, spread over
// nodes and zones.
func Endpoints(n int) []balancer.Endpoint {
	return endpointsFrom(0, n)
}

// endpointsFrom returns the endpoints number first to first+n-1.
func endpointsFrom(first, n int) []balancer.Endpoint {
	all := make([]balancer.Endpoint, 0, n)
	for i := first; i < first+n; i++ {
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		if i%2 == 1 {
			addr = netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})
		}
		all = append(all, balancer.Endpoint{
			Addr: netip.AddrPortFrom(addr, 8080),
			Pod:  fmt.Sprintf("shop/web-%d", i),
			Node: fmt.Sprintf("node-%d", i%7),
			Zone: fmt.Sprintf("zone-%d", i%3),
		})
	}
	return all
}

// weighted returns an endpoint for each weight.
func weighted(weights ...int) []balancer.Endpoint {
	set := Endpoints(len(weights))
	for i, w := range weights {
		set[i].Weight = w
	}
	return set
}

// client returns the address of the i-th client.
func client(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
}

// pickFrom picks once and says whether the pick is an endpoint of the set, as
// it was given, that was not tried.
func pickFrom(p balancer.Picker, set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	pick, err := p.Pick(r)
	if err != nil {
		return pick, fmt.Errorf("picking with %d endpoints, %d tried: %w", len(set), len(r.Tried), err)
	}
	if !slices.Contains(set, pick.Endpoint) {
		return pick, fmt.Errorf("picked %+v, which is not an endpoint of the set", pick.Endpoint)
	}
	if slices.Contains(r.Tried, pick.Endpoint.Addr) {
		return pick, fmt.Errorf("picked %v again, which was tried", pick.Endpoint.Addr)
	}
	return pick, nil
}

// wantNone says whether the picker has nothing left for the request.
func wantNone(p balancer.Picker, r balancer.Request) error {
	pick, err := p.Pick(r)
	switch {
	case err == nil:
		return fmt.Errorf("picked %v with %d tried, want ErrNoEndpoints", pick.Endpoint.Addr, len(r.Tried))
	case !errors.Is(err, balancer.ErrNoEndpoints):
		return fmt.Errorf("error %q with %d tried, want ErrNoEndpoints", err, len(r.Tried))
	}
	return nil
}

// finish calls Done if there is one.
func finish(p balancer.Pick, o balancer.Outcome) {
	if p.Done != nil {
		p.Done(o)
	}
}

func addrs(endpoints []balancer.Endpoint) []netip.AddrPort {
	all := make([]netip.AddrPort, len(endpoints))
	for i, e := range endpoints {
		all[i] = e.Addr
	}
	return all
}
