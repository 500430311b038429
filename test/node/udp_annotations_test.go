package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// ended is how long a client's session went on that ended as idle.
func ended(u *usher.Process, c *asker) time.Duration {
	c.t.Helper()
	return time.Duration(told(u, c, "idle").DurationMS * float64(time.Millisecond))
}

// A Service's annotations come before the flags, those that mean nothing do not.
func TestUDPTimeoutsByAnnotations(t *testing.T) {
	s := newScene(t)
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	answer(t, s.pods[1].NS, "mute", s.pods[1].AddrPort4(8080), func(a *answerer) { a.mute = true })
	for i, c := range []struct {
		name string
		to   netip.Addr
		set  map[string]string
	}{
		{"stream", s.pods[0].IPv4, map[string]string{"udp-stream-timeout": "1s"}},
		{"idle", s.pods[1].IPv4, map[string]string{"udp-idle-timeout": "1s"}},
		{"other", s.pods[0].IPv4, map[string]string{"udp-idle-timeout": "1s"}}, // is not what its session needs
		{"bad", s.pods[0].IPv4, map[string]string{"udp-stream-timeout": "soon"}},
		{"short", s.pods[0].IPv4, map[string]string{"udp-stream-timeout": "10ms"}},
		{"none", s.pods[1].IPv4, nil},
	} {
		s.write(c.name+".yaml", annotated(udpManifest(c.name, 10+i, 30080+i, c.to), c.name, c.set))
	}
	u := s.start("--udp-idle-timeout=4s", "--udp-stream-timeout=4s")
	var clients []*asker
	for i := range 6 {
		c := ask(t, s.client.NS, udpVIP(10+i))
		c.once(silence)
		clients = append(clients, c)
	}
	for i, c := range clients {
		lasted := ended(u, c)
		if short := i < 2; short && lasted > 3900*time.Millisecond || !short && lasted < 3900*time.Millisecond {
			t.Errorf("%s: the session has ended after %s", c, lasted)
		}
	}
	for _, name := range []string{"bad", "short"} {
		u.WaitLog("default/" + name)
	}
	bad := 0
	for line := range strings.SplitSeq(u.Log(), "\n") {
		if strings.Contains(line, "InvalidUsherAnnotation") && strings.Contains(line, "udp-stream-timeout") {
			bad++
		}
	}
	if bad != 2 {
		t.Errorf("%d lines tell of two bad annotations", bad)
	}
}

// What is annotated on a Service that has sessions is for these too.
func TestUDPTimeoutsOfLiveSessions(t *testing.T) {
	s := newScene(t)
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	long, short := map[string]string{"udp-stream-timeout": "1h"}, map[string]string{"udp-stream-timeout": "1s"}
	web := udpManifest("web", 10, 30080, s.pods[0].IPv4)
	s.write("web.yaml", annotated(web, "web", long))
	u := s.start(shortSessions...)
	c := ask(t, s.client.NS, udpVIP(10))
	c.gets("pod-1")
	session := time.Now()
	netns.Eventually(t, "the session outlives the flags", func() error {
		if time.Since(session) < 3*time.Second {
			return fmt.Errorf("too early to tell")
		}
		return nil
	})
	if n := s.metric("usher_udp_sessions_active", `service="web"`); n != 1 {
		t.Errorf("%v sessions", n)
	}
	s.write("web.yaml", annotated(web, "web", short))
	if lasted := ended(u, c); lasted < 2*time.Second {
		t.Errorf("the session has ended after %s", lasted)
	}
}

func TestUDPSessionsByAnnotation(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4)
	server := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	web := udpManifest("web", 10, 30080, s.pods[0].IPv4)
	s.write("web.yaml", web)
	s.write("other.yaml", udpManifest("other", 11, 30081, s.pods[0].IPv4))
	u := s.start()
	active := func() int { return int(s.metric("usher_udp_sessions_active", `service="web"`)) }
	var clients []*asker
	everybody := func(n int) {
		t.Helper()
		for range n {
			for _, from := range []*netns.NS{s.client.NS, s.routed.NS, s.Client} {
				c := ask(t, from, udpVIP(10))
				c.gets("pod-1")
				clients = append(clients, c)
			}
		}
	}
	everybody(4)
	if n := active(); n != 12 {
		t.Errorf("%d sessions of 12 clients", n)
	}
	other := ask(t, s.client.NS, udpVIP(11))
	other.gets("pod-1")

	s.write("web.yaml", annotated(web, "web", map[string]string{"udp-max-sessions": "5"}))
	netns.Eventually(t, "the bound acts", func() error {
		everybody(1)
		if n := active(); n > 5 {
			return fmt.Errorf("%d sessions", n)
		}
		return nil
	})
	for range 3 {
		everybody(1)
		if n := active(); n > 5 {
			t.Errorf("%d sessions, of 5 that it may have", n)
		}
	}
	evicted := u.Records(len(clients)-5, func(r usher.Record) bool { return r.Service == "web" && r.Reason == "evicted" })
	if len(evicted) != len(clients)-active() {
		t.Errorf("%d of %d sessions were evicted, %d are left", len(evicted), len(clients), active())
	}
	other.gets("pod-1")
	if n := len(server.from(other.name)); n != 1 {
		t.Errorf("a client of another Service has %d sessions", n)
	}
}
