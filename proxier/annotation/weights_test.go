package annotation

import (
	"net/netip"
	"testing"

	"github.com/usher-proxy/usher/balancer"
)

func endpoint(zone, node, pod, addr string) balancer.Endpoint {
	return balancer.Endpoint{Zone: zone, Node: node, Pod: pod, Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 80)}
}

func TestWeights(t *testing.T) {
	const all = "zone=eu-1a:3, node=big-1.example:2 ,pod = web-0 : 5,address=10.0.0.7:4,address=[fd00::7]:100,zone=eu-1b:1"
	s, faults := parse(map[string]string{"weights": all})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, c := range []struct {
		what string
		e    balancer.Endpoint
		want int
	}{
		{"nothing names it", endpoint("", "", "", "10.0.0.1"), 1},
		{"its zone", endpoint("eu-1a", "small", "default/web-1", "10.0.0.1"), 3},
		{"its node", endpoint("", "big-1.example", "", "10.0.0.1"), 2},
		{"its node before its zone", endpoint("eu-1a", "big-1.example", "", "10.0.0.1"), 2},
		{"its pod before its node", endpoint("eu-1a", "big-1.example", "shop/web-0", "10.0.0.1"), 5},
		{"its address before its pod", endpoint("eu-1a", "big-1.example", "shop/web-0", "10.0.0.7"), 4},
		{"its address, in the form of IPv6", endpoint("eu-1a", "", "", "::ffff:10.0.0.7"), 4},
		{"its IPv6 address", endpoint("", "", "", "fd00::7"), 100},
		{"a node of the zone's name", endpoint("", "eu-1a", "", "10.0.0.1"), 1},
		{"a pod whose namespace has the name", endpoint("", "", "web-0/x", "10.0.0.1"), 1},
	} {
		if got := s.Weights.Of(c.e); got != c.want {
			t.Errorf("%s: weighs %d, want %d", c.what, got, c.want)
		}
	}
	if got := (Weights)(nil).Of(endpoint("eu-1a", "", "", "10.0.0.7")); got != 1 {
		t.Errorf("without weights it weighs %d", got)
	}
}

func TestWeightsThatMeanNothing(t *testing.T) {
	for _, value := range []string{
		"3", "zone=a", "zone=a:", "zone=:3", "zone=a:0", "zone=a:101", "zone=a:1.5", "zone:a=3", "rack=a:3", "zone=a:3,", ",",
		"address=web:3", "address=fd00::7:4", "address=[10.0.0.7]:4", "address=[fd00::7:4", "address=fd00::7]:4", "address=[fe80::1%eth0]:2",
		"zone=a:1,zone=a:2", "address=10.0.0.7:1,address=[::ffff:10.0.0.7]:2",
	} {
		if got, faults := parse(map[string]string{"weights": value}); len(faults) != 1 || got.Weights != nil {
			t.Errorf("%q: %v, %v", value, got.Weights, faults)
		}
	}
}
