package node

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

// tellsAll has the node's kernel send every ICMP error: it rations them, which
// tests of each of them cannot use.
func (s *scene) tellsAll() {
	s.Sysctl("net/ipv4/icmp_ratelimit", "0")
	s.Sysctl("net/ipv6/icmp/ratelimit", "0")
}

// refusedAtOnce wants the next datagram to be refused before a client would give up
// waiting for an answer.
func (a *asker) refusedAtOnce() {
	a.t.Helper()
	if who, err := a.once(answersWithin); !isRefused(err) {
		a.t.Errorf("%s, and gets %q, %v; want a refusal", a, who, err)
	}
}

func TestUDPServiceScaledToZero(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
	s.tellsAll()
	server := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort6(8080))
	scale := func(four, six []netip.Addr) {
		s.write("web.yaml", udpManifest("web", 10, 30080, four...)+"---"+strings.ReplaceAll(udpManifest6("six", 10, 30082, six...), "[{addresses: []}]", "[]"))
	}
	scale([]netip.Addr{s.pods[0].IPv4}, []netip.Addr{s.pods[0].IPv6})
	s.start()
	clients := append(s.everywhere(), s.everywhere6()...)
	for range 2 {
		for _, c := range clients {
			c.awaits("pod-1")
		}
		scale(nil, nil)
		for _, c := range clients {
			c.awaitsRefusal()
		}
		before := server.count()
		for _, c := range clients {
			c.refusedAtOnce()
		}
		if n := server.count() - before; n > 0 {
			t.Errorf("%d datagrams reached an endpoint that is gone", n)
		}
		scale([]netip.Addr{s.pods[0].IPv4}, []netip.Addr{s.pods[0].IPv6})
	}
	for _, c := range clients {
		c.awaits("pod-1")
	}
}

// Without an endpoint on this node there is silence for clients from outside:
// their load balancer would take a refusal for an answer.
func TestUDPLocalPolicyWithoutLocalEndpoints(t *testing.T) {
	s := newScene(t)
	s.tellsAll()
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	s.write("node.yaml", nodeManifest)
	on := func(node string) {
		local := strings.Replace(udpManifest("web", 10, 30080, s.pods[0].IPv4), "type: NodePort", "type: NodePort\n  externalTrafficPolicy: Local", 1)
		s.write("web.yaml", strings.ReplaceAll(local, "{addresses:", "{nodeName: "+node+", addresses:"))
	}
	on("node-1")
	s.start("--node-name=node-1")
	outside := []*asker{ask(t, s.Client, "192.0.2.1:30080"), ask(t, s.Client, "192.0.2.1:30080")}
	inside := []*asker{ask(t, s.client.NS, "192.0.2.1:30080"), ask(t, s.routed.NS, "192.0.2.1:30080"), ask(t, s.NS, "192.0.2.1:30080"), ask(t, s.client.NS, udpVIP(10))}
	for range 2 {
		for _, c := range append(outside, inside...) {
			c.awaits("pod-1")
		}
		on("node-2")
		for _, c := range outside {
			c.awaitsSilence()
		}
		for _, c := range inside {
			c.awaits("pod-1")
		}
		on("node-1")
	}
	for _, c := range outside {
		c.awaits("pod-1")
	}
	// Nowhere is an endpoint: that is no question of which node.
	s.write("web.yaml", strings.Replace(udpManifest("web", 10, 30080), "type: NodePort", "type: NodePort\n  externalTrafficPolicy: Local", 1))
	for _, c := range append(outside, inside...) {
		c.awaitsRefusal()
	}
}

// Clients outside of loadBalancerSourceRanges get silence.
func TestUDPSourceRanges(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4, netip.MustParsePrefix("203.0.113.0/24"))
	s.tellsAll()
	server := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	allow := func(ranges ...string) {
		s.write("web.yaml", strings.ReplaceAll(restricted("web", 10, ranges...), "{name: http,", "{name: udp, protocol: UDP,"))
	}
	allow("10.244.2.0/24")
	s.start()
	const balanced = "203.0.113.10:80"
	bridged, routed, outside := ask(t, s.client.NS, balanced), ask(t, s.routed.NS, balanced), ask(t, s.Client, balanced)
	routed.awaits("pod-1")
	bridged.awaitsSilence()
	outside.awaitsSilence()
	for _, from := range []*netns.NS{s.client.NS, s.Client} {
		ask(t, from, udpVIP(10)).awaits("pod-1") // ranges are for the load balancer's addresses only
	}
	if n := server.countOf(outside.name); n > 0 {
		t.Errorf("%d datagrams of a client outside of the ranges have reached the endpoint", n)
	}

	allow("192.0.2.0/24")
	outside.awaits("pod-1")
	routed.awaitsSilence() // also who has a session
	bridged.awaitsSilence()
	allow("10.244.2.0/24")
	routed.awaits("pod-1")
	outside.awaitsSilence()
	allow()
	for _, c := range []*asker{bridged, routed, outside} {
		c.awaits("pod-1")
	}
}
