package node

import (
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// A UDP client that goes on without a pause keeps the kernel's entry of its flow
// alive: what that says has to be forgotten when it does not hold any more.

// pester has clients send some datagrams that may be lost.
func pester(clients []*asker) {
	for range 3 {
		for _, c := range clients {
			c.once(time.Millisecond)
		}
	}
}

func TestUDPClientsThatWereThereBeforeTheirService(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
	s.keepsTrack()
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort6(8080))
	s.write("other.yaml", udpManifest("other", 11, 30081, s.pods[0].IPv4))
	clients := append(s.everywhere(), s.everywhere6()...)
	pester(clients) // nobody is there yet
	s.start()
	ask(t, s.client.NS, udpVIP(11)).awaits("pod-1")
	pester(clients)
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4)+"---"+udpManifest6("six", 10, 30082, s.pods[0].IPv6))
	for _, c := range clients {
		c.awaits("pod-1")
		c.gets("pod-1")
	}
}

// otherProxy serves the VIP with number 10 as a proxy in the kernel does, by a pod
// that is asked directly, until it is told to end.
func (s *scene) otherProxy(pod *netns.Pod) (end func()) {
	s.t.Helper()
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		s.Run("iptables", "-t", "nat", "-A", chain, "-d", "10.96.0.10", "-p", "udp", "--dport", "80", "-j", "DNAT", "--to-destination", pod.AddrPort4(8080).String())
	}
	return func() {
		for _, chain := range []string{"PREROUTING", "OUTPUT"} {
			s.Run("iptables", "-t", "nat", "-F", chain)
		}
	}
}

// Clients go from another proxy to usher, and back to it.
func TestUDPClientsOfAnotherProxy(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4)
	s.keepsTrack()
	other := answer(t, s.pods[1].NS, "other", s.pods[1].AddrPort4(8080))
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4))
	end := s.otherProxy(s.pods[1])
	clients := []*asker{ask(t, s.routed.NS, udpVIP(10)), ask(t, s.Client, udpVIP(10)), ask(t, s.NS, udpVIP(10))}
	for _, c := range clients {
		c.gets("other")
	}
	end()
	u := s.start()
	before := other.count()
	for _, c := range clients {
		c.gets("pod-1")
	}
	if n := other.count() - before; n > 0 {
		t.Errorf("%d datagrams went past usher", n)
	}

	u.Stop()
	s.otherProxy(s.pods[1])
	for _, c := range clients {
		c.gets("other")
	}
}

func TestUDPClientsOfANodePortThatMoves(t *testing.T) {
	s := newScene(t)
	s.keepsTrack()
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	answer(t, s.pods[1].NS, "pod-2", s.pods[1].AddrPort4(8080))
	services := func(one, two int) {
		s.write("services.yaml", udpManifest("one", 10, one, s.pods[0].IPv4)+"---"+udpManifest("two", 11, two, s.pods[1].IPv4))
	}
	services(30080, 30081)
	s.start()
	var first, second, third []*asker
	for _, from := range []*netns.NS{s.client.NS, s.routed.NS, s.NS, s.Client} {
		first = append(first, ask(t, from, "192.0.2.1:30080"))
		second = append(second, ask(t, from, "192.0.2.1:30081"))
		third = append(third, ask(t, from, "192.0.2.1:30082"))
	}
	all := func(clients []*asker, who string) {
		t.Helper()
		for _, c := range clients {
			c.awaits(who)
			c.gets(who)
		}
	}
	all(first, "pod-1")
	all(second, "pod-2")
	pester(third)

	services(30081, 30080) // each gets the other one's
	all(first, "pod-2")
	all(second, "pod-1")

	services(30082, 30080)
	all(third, "pod-1")
	all(first, "pod-2")
	for _, c := range second {
		c.until("is answered no more", func(who string, err error) bool { return err != nil })
	}
}

func TestUDPClientsOfAnAddressThatAnotherServiceGets(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4)
	s.keepsTrack()
	one := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	answer(t, s.pods[1].NS, "pod-2", s.pods[1].AddrPort4(8080))
	s.write("one.yaml", udpManifest("one", 10, 30080, s.pods[0].IPv4))
	s.start()
	clients := s.everywhere()
	for _, c := range clients {
		c.awaits("pod-1")
	}

	s.remove("one.yaml")
	for _, c := range clients {
		c.until("is answered no more", func(_ string, err error) bool { return err != nil })
	}
	reached := one.count()
	pester(clients)
	if n := one.count() - reached; n > 0 {
		t.Errorf("%d datagrams reached the endpoint of a Service that is gone", n)
	}

	s.write("two.yaml", udpManifest("two", 10, 30080, s.pods[1].IPv4))
	for _, c := range clients {
		c.awaits("pod-2")
		c.gets("pod-2")
	}
	// From one to the other at once.
	s.write("two.yaml", udpManifest("three", 10, 30080, s.pods[0].IPv4))
	for _, c := range clients {
		c.awaits("pod-1")
		c.gets("pod-1")
	}
}
