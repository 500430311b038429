package node

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// often makes checks as frequent as they may be, and believes each: it has all the
// time that there is, for a busy machine.
func often(check string) wishes {
	return wishes{"health-check": check, "health-interval": "1s", "health-timeout": "950ms", "health-fall": "1", "health-rise": "1", "passive-health": "off"}
}

// Three Services of the same pods ask them in three ways. What one finds out is
// nothing to the others, and what connections say means nothing here.
func TestHealthChecks(t *testing.T) {
	s := newSceneOfSites(t)
	pod := s.pods[0]
	var loading atomic.Bool
	for _, p := range s.pods {
		serveTCP(t, p.NS, p.AddrPort4(7000), func(c *net.TCPConn) {
			line, _ := bufio.NewReader(c).ReadString('\n')
			if line == "PING\r\n" && !(p == pod && loading.Load()) {
				io.WriteString(c, "+PONG\r\n")
			} else {
				io.WriteString(c, "-LOADING\r\n")
			}
		})
	}
	services := []struct {
		name, check, why string
		ill              *atomic.Bool
	}{
		{"status", "http:/ready", "it answered HTTP status 500", &s.sites[0].ill},
		{"other-port", "http@9000:/ready?deep=1", "it answered HTTP status 500", &s.others[0].ill},
		{"talk", `tcp@7000:send=PING\r\n,expect=+PONG`, "it closed after 10 bytes without the expected answer", &loading},
	}
	for i, c := range services {
		s.write(c.name+".yaml", annotated(manifest(c.name, 10+i, 30080+i, s.pods[0].IPv4, s.pods[1].IPv4), c.name, often(c.check)))
	}
	u := s.startSeen()
	for i := range services {
		served(t, s.client.NS, vip(10+i))
		awaitAnswers(t, s.client.NS, vip(10+i), "pod-1", "pod-2")
	}
	for i, c := range services {
		c.ill.Store(true)
		awaitAnswers(t, s.client.NS, vip(10+i), "pod-2")
		s.is(c.name, pod, "out", c.why)
		if n := countLines(u.Log(), "default/"+c.name, pod.AddrPort4(8080).String()+" is ill", c.why); n != 1 {
			t.Errorf("%s: %d lines tell of it", c.name, n)
		}
		for j := i + 1; j < len(services); j++ {
			if got := answersOf(t, s.client.NS, vip(10+j), 4); len(got) != 2 {
				t.Errorf("%s: %q answer while only %s has failed", services[j].name, got, c.name)
			}
		}
	}
	for _, c := range services {
		c.ill.Store(false)
	}
	for i, c := range services {
		awaitAnswers(t, s.client.NS, vip(10+i), "pod-1", "pod-2")
		s.is(c.name, pod, "in", "the last check was good")
	}
	if n := metric(t, s.NS, "usher_endpoint_ejections_total{"); n < 1 {
		t.Errorf("%v ejections are counted", n)
	}
}

// sitesScene is a scene whose pods can be told to be ill, on two ports.
type sitesScene struct {
	*scene
	sites, others []*site // on port 8080, and on 9000
}

func newSceneOfSites(t *testing.T) *sitesScene {
	s := &sitesScene{scene: newSceneOfPods(t)}
	for _, p := range s.pods {
		s.sites = append(s.sites, serveSite(t, p.NS, p.Name, p.AddrPort4(8080)))
		s.others = append(s.others, serveSite(t, p.NS, p.Name, p.AddrPort4(9000)))
	}
	return s
}

// All endpoints that fail checks cannot be left out: that would be an outage.
func TestChecksLeaveOneEndpoint(t *testing.T) {
	s := newSceneOfSites(t)
	s.write("web.yaml", annotated(manifest("web", 10, 30080, s.pods[0].IPv4, s.pods[1].IPv4), "web", often("http:/ready")))
	u := s.startSeen()
	served(t, s.client.NS, vip(10))
	for _, site := range s.sites {
		site.ill.Store(true)
	}
	for _, p := range s.pods {
		u.WaitLog(p.AddrPort4(8080).String() + " is ill")
	}
	if got := answersOf(t, s.client.NS, vip(10), 10); len(got) != 1 {
		t.Errorf("%q answer; want one", got)
	}
	states := map[string]int{}
	for _, p := range s.pods {
		states[s.status("web", p).State]++
	}
	if states["in"] != 1 || states["out"] != 1 {
		t.Errorf("states %v", states)
	}
	// A check that is no longer asked for leaves nobody out.
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4, s.pods[1].IPv4))
	awaitAnswers(t, s.client.NS, vip(10), "pod-1", "pod-2")
}

// An endpoint that is ill and leaves is none that is ill.
func TestIllEndpointLeaves(t *testing.T) {
	s := newSceneOfSites(t)
	two := []netip.Addr{s.pods[0].IPv4, s.pods[1].IPv4}
	s.write("web.yaml", annotated(manifest("web", 10, 30080, two...), "web", often("http:/ready")))
	s.startSeen()
	served(t, s.client.NS, vip(10))
	s.sites[0].ill.Store(true)
	ill := func(n float64) func() error {
		return func() error {
			if got := s.metric("usher_endpoints", `service="web"`, `state="ejected"`); got != n {
				return fmt.Errorf("%v are counted", got)
			}
			return nil
		}
	}
	netns.Eventually(t, "it is ill", ill(1))
	s.write("web.yaml", annotated(manifest("web", 10, 30080, two[1]), "web", often("http:/ready")))
	netns.EventuallyWithin(t, 5*time.Second, "it is none of the Service", ill(0))
}

// A name server that has become silent would be asked until its sessions are idle. A
// check finds it out, and clients that keep their port get the other one.
func TestUDPCheckMovesSessions(t *testing.T) {
	s := newScene(t)
	for _, p := range s.pods {
		answer(t, p.NS, p.Name, p.AddrPort4(8080))
	}
	check := fmt.Sprintf("udp:%x,expect=%s", "is-well 1", hex.EncodeToString([]byte(" is-well 1")))
	s.write("dns.yaml", annotated(udpManifest("dns", 10, 30080, s.pods[0].IPv4, s.pods[1].IPv4), "dns", often(check)))
	u := s.startSeen()
	ask(t, s.client.NS, udpVIP(10)).until("is answered", func(_ string, err error) bool { return err == nil })

	var clients []*asker // of pod-1
	netns.Eventually(t, "clients of pod-1", func() error {
		c := ask(t, s.client.NS, udpVIP(10))
		if who, err := c.once(answersWithin); err != nil {
			t.Fatal(err)
		} else if who == "pod-1" {
			clients = append(clients, c)
		}
		if len(clients) < 3 {
			return errNotYet
		}
		return nil
	})
	mend := drop(s.pods[0], "udp", 8080)
	for _, c := range clients {
		c.awaits("pod-2")
	}
	address := s.pods[0].AddrPort4(8080).String()
	u.WaitLog("endpoint " + address + " is ill")
	s.is("dns", s.pods[0], "out", "no answer within 950ms")
	for range 6 {
		ask(t, s.client.NS, udpVIP(10)).gets("pod-2")
	}

	mend()
	u.WaitLog("endpoint " + address + " is well again")
	s.is("dns", s.pods[0], "in", "the last check was good")
	netns.Eventually(t, "new clients get both", func() error {
		c := ask(t, s.client.NS, udpVIP(10))
		if who, err := c.once(answersWithin); err != nil || who != "pod-1" {
			return fmt.Errorf("%q, %v", who, err)
		}
		return nil
	})
	for _, c := range clients {
		c.gets("pod-2") // they stay where they are
	}
	if strings.Contains(u.Log(), s.pods[1].AddrPort4(8080).String()+" is ill") {
		t.Error("the other one was found to be ill")
	}
}
