package node

import (
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// everywhere are askers of every kind of client, at the VIP with number 10 and
// NodePort 30080.
func (s *scene) everywhere() (list []*asker) {
	s.t.Helper()
	for _, from := range []*netns.NS{s.client.NS, s.routed.NS, s.NS, s.Client} {
		list = append(list, ask(s.t, from, udpVIP(10)), ask(s.t, from, "192.0.2.1:30080"))
	}
	return append(list, ask(s.t, s.NS, "127.0.0.1:30080"))
}

// keepsTrack has the kernel track flows also without usher, as most nodes do.
func (s *scene) keepsTrack() {
	for _, command := range []string{"iptables", "ip6tables"} {
		s.Run(command, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
	}
}

// everywhere6 are those of an IPv6 Service with NodePort 30082.
func (s *scene) everywhere6() (list []*asker) {
	s.t.Helper()
	for _, from := range []*netns.NS{s.client.NS, s.routed.NS, s.NS, s.Client} {
		list = append(list, ask(s.t, from, "[fd00:10:96::10]:80"), ask(s.t, from, "[2001:db8::1]:30082"))
	}
	return list
}

// A client that never changes its port gets on after a restart, in good order or
// not.
func TestUDPClientsSurviveRestarts(t *testing.T) {
	for how, end := range map[string]func(*usher.Process){
		"stop":  func(u *usher.Process) { u.Stop() },
		"crash": (*usher.Process).Kill,
	} {
		t.Run(how, func(t *testing.T) {
			s := newScene(t)
			s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
			s.keepsTrack()
			answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
			answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort6(8080))
			s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4)+"---"+udpManifest6("six", 10, 30082, s.pods[0].IPv6))
			u := s.start()
			clients := append(s.everywhere(), s.everywhere6()...)
			for _, c := range clients {
				c.awaits("pod-1")
			}
			end(u)
			for range 3 {
				for _, c := range clients { // they go on while nobody is there
					if who, err := c.once(time.Millisecond); err == nil {
						t.Errorf("%s, and gets %q", c, who)
					}
				}
			}
			s.start()
			for _, c := range clients {
				c.awaits("pod-1")
				c.gets("pod-1")
			}
		})
	}
}

// Listener ports are those that the former process had, whatever is new: clients
// that keep their ports are led there by what the kernel remembers.
func TestUDPListenerPortsAfterACrash(t *testing.T) {
	s := newScene(t)
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	local := func(manifest string) string {
		return strings.Replace(manifest, "type: NodePort", "type: NodePort\n  externalTrafficPolicy: Local", 1)
	}
	s.write("web.yaml", local(udpManifest("web", 10, 30080, s.pods[0].IPv4)))
	u := s.start()
	c := ask(t, s.client.NS, udpVIP(10))
	c.awaits("pod-1")
	s.write("aaa.yaml", udpManifest("aaa", 11, 30081, s.pods[0].IPv4)) // it would be the first
	ask(t, s.client.NS, udpVIP(11)).awaits("pod-1")
	before := s.udpPorts()
	if len(before) != 5 {
		t.Errorf("the rules lead to %v: want two sockets of one Service, three of the other", before)
	}
	u.Kill()
	s.start()
	c.gets("pod-1")
	if after := s.udpPorts(); !maps.Equal(before, after) {
		t.Errorf("the listener ports are %v, they were %v", after, before)
	}
}

// Answers that are on their way when usher stops still arrive, and nobody else is
// let in meanwhile.
func TestUDPAnswersArriveWhileStopping(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4)
	slow := answer(t, s.pods[0].NS, "slow", s.pods[0].AddrPort4(8080), func(a *answerer) { a.delay = 300 * time.Millisecond })
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.start()
	clients := s.everywhere()
	for _, c := range clients {
		if err := c.send(); err != nil {
			t.Fatal(err)
		}
	}
	netns.Eventually(t, "all have reached the endpoint", func() error {
		if n := slow.count(); n < len(clients) {
			return fmt.Errorf("%d of %d", n, len(clients))
		}
		return nil
	})
	start := time.Now()
	u.Signal(syscall.SIGTERM)
	for _, c := range clients {
		if who, err := c.answer(answersWithin); err != nil || who != "slow" {
			t.Errorf("%s, and gets %q, %v while usher stops", c, who, err)
		}
	}
	if code := u.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("usher stopped within %s", time.Since(start))
	for _, c := range clients {
		u.Records(1, withReason(c, "shutdown"))
	}
	s.leavesNothing()
}

// Nobody waits for an endpoint that never answers for longer than for the last
// replies.
func TestUDPStopIsNotHeldUpBySilentEndpoints(t *testing.T) {
	s := newScene(t)
	mute := answer(t, s.pods[0].NS, "mute", s.pods[0].AddrPort4(8080), func(a *answerer) { a.mute = true })
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.start()
	c := ask(t, s.client.NS, udpVIP(10))
	c.awaitsSilence()
	start := time.Now()
	u.Signal(syscall.SIGTERM)
	if code := u.Wait(); code != 0 || time.Since(start) > 10*time.Second {
		t.Errorf("exit code %d after %s", code, time.Since(start))
	}
	if mute.count() == 0 {
		t.Error("the endpoint was not reached")
	}
}
