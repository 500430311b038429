package node

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// newBindScene is a scene whose Service addresses belong to the node, as
// --capture=bind wants it.
func newBindScene(t *testing.T) *scene {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
	s.tellsAll()
	for n := 10; n < 13; n++ {
		s.Run("ip", "address", "add", fmt.Sprintf("10.96.0.%d/32", n), "dev", "lo")
		s.Run("ip", "address", "add", fmt.Sprintf("fd00:10:96::%d/128", n), "dev", "lo", "nodad")
	}
	return s
}

func (s *scene) startBind() *usher.Process {
	s.t.Helper()
	return usher.Start(s.t, s.NS, "--manifests="+s.folder, "--capture=bind")
}

// bindClients are askers of every kind, also at each of the node's addresses.
func (s *scene) bindClients() []*asker {
	s.t.Helper()
	clients := append(s.everywhere(), s.everywhere6()...)
	for _, from := range []*netns.NS{s.client.NS, s.routed.NS, s.NS} {
		clients = append(clients, ask(s.t, from, "10.244.1.1:30080"), ask(s.t, from, "[fd00:10:244:1::1]:30082"))
	}
	return append(clients, ask(s.t, s.NS, "[::1]:30082"))
}

// All that UDP clients are promised holds without rules, too.
func TestUDPCaptureBind(t *testing.T) {
	s := newBindScene(t)
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort6(8080))
	answer(t, s.pods[1].NS, "pod-2", s.pods[1].AddrPort4(8080))
	both := udpManifest("web", 10, 30080, s.pods[0].IPv4) + "---" + udpManifest6("six", 10, 30082, s.pods[0].IPv6)
	s.write("web.yaml", both)
	u := s.startBind()
	clients := s.bindClients()
	all := func(do func(*asker)) {
		t.Helper()
		for _, c := range clients {
			do(c)
		}
	}
	all(func(c *asker) { c.awaits("pod-1"); c.gets("pod-1") })

	// Without endpoints, and back.
	s.write("web.yaml", udpManifest("web", 10, 30080)+"---"+udpManifest6("six", 10, 30082))
	all((*asker).awaitsRefusal)
	all((*asker).refusedAtOnce)
	s.write("web.yaml", both)
	all(func(c *asker) { c.awaits("pod-1"); c.gets("pod-1") })

	// Restarts.
	for _, end := range []func(*usher.Process){func(u *usher.Process) { u.Stop() }, (*usher.Process).Kill} {
		end(u)
		all(func(c *asker) { c.once(time.Millisecond) })
		u = s.startBind()
		all(func(c *asker) { c.awaits("pod-1"); c.gets("pod-1") })
	}

	// Another endpoint, another NodePort, another Service at the same address.
	s.write("web.yaml", udpManifest("web", 10, 30083, s.pods[1].IPv4))
	c := ask(t, s.client.NS, "192.0.2.1:30083")
	c.awaits("pod-2")
	clients[0].awaits("pod-2")
	clients[1].until("is answered no more", func(_ string, err error) bool { return err != nil })
	s.write("web.yaml", udpManifest("other", 10, 30083, s.pods[0].IPv4))
	c.awaits("pod-1")
	if r := u.Records(1, withReason(c, "service_removed"))[0]; r.VIP != "192.0.2.1" || r.VIPPort != 30083 || r.VIPKind != "node_port" {
		t.Errorf("the record of a session at a NodePort: %+v", r)
	}

	if code := u.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.leavesNothing()
}

// What other programs have bound is told, and everything else is served.
func TestUDPCaptureBindBesideOthers(t *testing.T) {
	s := newBindScene(t)
	s.ServeUDPEcho(netip.MustParseAddrPort("10.96.0.10:80"))
	s.ServeUDPEcho(netip.MustParseAddrPort("127.0.0.1:30081"))
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4))
	s.write("other.yaml", udpManifest("other", 11, 30081, s.pods[0].IPv4))
	u := usher.Launch(t, s.NS, "run", "--log-format=json", "--manifests="+s.folder, "--capture=bind")
	for _, addr := range []string{"192.0.2.1:30080", "127.0.0.1:30080", udpVIP(11), "192.0.2.1:30081"} {
		ask(t, s.NS, addr).awaits("pod-1")
	}
	u.WaitLog("10.96.0.10:80")
	u.WaitLog("127.0.0.1:30081")
}

func TestUDPCaptureBindAnswersWhileStopping(t *testing.T) {
	s := newBindScene(t)
	slow := answer(t, s.pods[0].NS, "slow", s.pods[0].AddrPort4(8080), func(a *answerer) { a.delay = 300 * time.Millisecond })
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.startBind()
	clients := s.everywhere()
	for _, c := range clients {
		c.send()
	}
	netns.Eventually(t, "all have reached the endpoint", func() error {
		if n := slow.count(); n < len(clients) {
			return fmt.Errorf("%d of %d", n, len(clients))
		}
		return nil
	})
	u.Signal(syscall.SIGTERM)
	for _, c := range clients {
		if who, err := c.answer(answersWithin); err != nil || who != "slow" {
			t.Errorf("%s, and gets %q, %v while usher stops", c, who, err)
		}
	}
	u.Wait()
}

// Forged sources of our own are dropped without rules, too.
func TestUDPCaptureBindForgedSources(t *testing.T) {
	s := newBindScene(t)
	for _, device := range []string{"all", "cni0", s.routed.HostLink, "eth0"} {
		s.Sysctl("net/ipv4/conf/"+device+"/accept_local", "1")
		s.Sysctl("net/ipv4/conf/"+device+"/rp_filter", "0")
	}
	one := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4))
	s.write("other.yaml", udpManifest("other", 11, 30081, s.pods[0].IPv4))
	s.startBind()
	ask(t, s.client.NS, udpVIP(10)).awaits("pod-1")
	ask(t, s.client.NS, udpVIP(11)).awaits("pod-1")
	reached := one.count()
	const n = 5
	forge(t, s.routed.NS, udpVIP(10), udpVIP(10), n) // the socket's own: they never get as far as the others
	for i, from := range []string{udpVIP(11), "192.0.2.1:30081"} {
		forge(t, s.routed.NS, from, udpVIP(10), n)
		netns.EventuallyWithin(t, 5*time.Second, "they are dropped", func() error {
			if got := s.metric("usher_udp_drops_total", `cause="loop"`); got != float64(n*(i+1)) {
				return fmt.Errorf("%v of %d are counted as a loop", got, n*(i+1))
			}
			return nil
		})
	}
	if now := one.count(); now != reached {
		t.Errorf("%d datagrams reached the endpoint", now-reached)
	}
}
