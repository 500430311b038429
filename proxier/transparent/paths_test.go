package transparent

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

// given pods and machines around a node, when asked behind which device they
// are, then it is named.
func TestDevice(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		node := netns.NewNode(t, "node")
		bridged, routed := node.AddPod(netns.Bridged, "bridged"), node.AddPod(netns.Routed, "routed")
		paths := newPaths(t, node)
		for addr, want := range map[netip.Addr]string{
			v.pod(bridged): "cni0",
			v.pod(routed):  routed.HostLink,
			v.client():     "eth0",
			v.node():       "lo",
			v.addr(netip.MustParseAddr("127.1.2.3"), netip.IPv6Loopback()):                                         "lo",
			v.addr(netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:7::7")):                      "eth0", // by the default route
			v.addr(netip.MustParseAddr("::ffff:"+bridged.IPv4.String()), netip.MustParseAddr("fd00:10:244:1::99")): "cni0",
		} {
			for range 2 {
				if device, err := paths.Device(addr); err != nil || device != want {
					t.Errorf("%s is behind %q, %v; want %s", addr, device, err, want)
				}
			}
		}
	})
}

// given addresses that cannot be compared or reached, when the decision is
// asked for, then it names the obstacle.
func TestObstaclesOfAddresses(t *testing.T) {
	node := netns.NewNode(t, "node")
	pod := node.AddPod(netns.Routed, "pod")
	node.Run("ip", "route", "add", "unreachable", "203.0.113.0/24")
	paths := newPaths(t, node)
	for _, c := range []struct {
		client, endpoint string
		want             Obstacle
		errno            error
	}{
		{pod.IPv4.String(), pod.IPv6.String(), OtherFamily, nil},
		{"fe80::7%eth0", pod.IPv6.String(), LinkLocal, nil},
		{netns.ClientIPv4.String(), "169.254.1.1", LinkLocal, nil},
		{"203.0.113.7", pod.IPv4.String(), Unknown, unix.EHOSTUNREACH},
		{netns.ClientIPv4.String(), "203.0.113.7", Unknown, unix.EHOSTUNREACH},
		{"::ffff:" + pod.IPv4.String(), pod.IPv4.String(), Hairpin, nil},
		{"::ffff:" + netns.ClientIPv4.String(), pod.IPv4.String(), None, nil},
		{"192.0.2.255", pod.IPv4.String(), HostClient, nil}, // broadcast: nobody's
	} {
		o, err := paths.Obstacle(Flow{
			Client: netip.MustParseAddr(c.client), Endpoint: netip.MustParseAddr(c.endpoint), ClientHere: true, EndpointHere: true,
		})
		if o != c.want || !errors.Is(err, c.errno) {
			t.Errorf("%s to %s: %q, %v; want %q, %v", c.client, c.endpoint, o, err, c.want, c.errno)
		}
	}
	for _, f := range []Flow{{}, {Client: pod.IPv6}, {Endpoint: pod.IPv6}, {Endpoint: pod.IPv4}} {
		if o, _ := paths.Obstacle(f); o == None {
			t.Errorf("no obstacle between %v and %v", f.Client, f.Endpoint)
		}
	}
}

// given the facts about both ends, then these are the decisions.
func TestDecision(t *testing.T) {
	node, eth0, cni0 := hop{device: 1, local: true}, hop{device: 2}, hop{device: 3}
	for _, c := range []struct {
		clientHere, endpointHere bool
		client, endpoint         hop
		want                     Obstacle
	}{
		{true, false, cni0, eth0, None},
		{false, true, eth0, cni0, None},
		{true, true, cni0, hop{device: 4}, None},
		{false, false, eth0, hop{device: 5}, Elsewhere},
		{true, true, cni0, cni0, SameDevice},
		{false, false, eth0, eth0, SameDevice},
		{true, false, node, eth0, HostClient},
		{true, true, node, node, HostClient},
		{true, true, cni0, node, HostEndpoint},
	} {
		f := Flow{ClientHere: c.clientHere, EndpointHere: c.endpointHere}
		if o := f.ofHops(c.client, c.endpoint); o != c.want {
			t.Errorf("%+v: %q", c, o)
		}
	}
}

// given an address that was looked up, when its route changes, then the old
// answer is given until Forget is called, or until it is too old.
func TestForget(t *testing.T) {
	node := netns.NewNode(t, "node")
	pod := node.AddPod(netns.Routed, "pod")
	paths := newPaths(t, node)
	expect := func(when, want string) {
		t.Helper()
		if device, err := paths.Device(pod.IPv4); err != nil || device != want {
			t.Errorf("%s: %q, %v; want %s", when, device, err, want)
		}
	}
	expect("at first", pod.HostLink)
	node.Run("ip", "route", "replace", pod.IPv4.String(), "dev", "cni0")
	expect("route changed", pod.HostLink)
	paths.Forget()
	expect("forgotten", "cni0")

	paths.hops.ttl = 0
	paths.Forget() // what was remembered for longer
	expect("remembered for no time", "cni0")
	node.Run("ip", "route", "replace", pod.IPv4.String(), "dev", "eth0")
	expect("too old", "eth0")
}

// given an answer on its way while everything is forgotten, then it is not
// remembered: it may be from before.
func TestForgetWhileAsking(t *testing.T) {
	asked := 0
	var c *cache[int, int]
	c, err := newCache(1, time.Hour, func(int) (int, error) {
		if asked++; asked == 1 {
			c.forget()
		}
		return asked, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for want := range 3 {
		want = min(want+1, 2)
		if got, _ := c.get(7); got != want {
			t.Errorf("answer %d, want %d", got, want)
		}
	}
}

// given more addresses than there is room for, then the cache does not grow.
func TestCacheIsBounded(t *testing.T) {
	c, err := newCache(10, time.Hour, func(k int) (int, error) { return k, nil })
	if err != nil {
		t.Fatal(err)
	}
	for k := range 100 {
		if v, err := c.get(k); v != k || err != nil {
			t.Fatalf("%d: %d, %v", k, v, err)
		}
	}
	if n := c.entries.Len(); n != 10 {
		t.Errorf("%d entries, want 10", n)
	}
}

// given many connections at once, then they may decide and forget at the same
// time.
func TestPathsConcurrently(t *testing.T) {
	node := netns.NewNode(t, "node")
	pod := node.AddPod(netns.Routed, "pod")
	paths := newPaths(t, node)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				o, err := paths.Obstacle(Flow{Client: netns.ClientIPv4, Endpoint: pod.IPv4, EndpointHere: true})
				if o != None || err != nil {
					t.Errorf("%q, %v", o, err)
				}
				if device, err := paths.Device(pod.IPv4); device != pod.HostLink || err != nil {
					t.Errorf("%q, %v", device, err)
				}
				paths.Forget()
			}
		})
	}
	all.Wait()
}
