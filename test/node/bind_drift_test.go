package node

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// Somebody else changes rules, routes and neighbour entries, as a network manager does
// that starts anew. Services come back by themselves, and what belongs to others stays.
func TestBindRoutesThatSomebodyElseChanges(t *testing.T) {
	s := newRoutedScene(t)
	for _, foreign := range []string{
		"rule add priority 22 ipproto tcp dport 80 lookup 100", "rule add priority 500 from 198.51.100.1 lookup 100",
		"-6 rule add priority 21 lookup 100", "route add local 10.96.0.99 dev lo table 100 proto 118", "neigh add proxy 192.0.2.78 dev eth0",
	} {
		s.Run("ip", strings.Fields(foreign)...)
	}
	s.write("web.yaml", balanced(10, 30080, s.pods[0]))
	s.write("nobody.yaml", dual("nobody", 11, 30081))
	u := usher.Start(t, s.NS, "--manifests="+s.folder, "--capture=bind", "--announce-vips", "--sync-period=10m")
	for _, family := range []string{vip(10), "http://[fd00:10:96::10]"} {
		served(t, s.client.NS, family)
	}
	wanted := s.announcing()
	for _, damage := range []struct {
		about string
		do    string
	}{
		{"a rule is removed", "ip rule del priority 21"},
		{"all rules are removed", "for p in 20 21 22 22 22 22 23 23 24 24 25 26; do ip rule del priority $p proto 118; done; true"},
		{"IPv6 rules are removed", "ip -6 rule del priority 24; ip -6 rule del priority 20"},
		{"a table is flushed", "ip route flush table 1970470992"},
		{"an IPv6 table is flushed", "ip -6 route flush table 1970601985"},
		{"all routes of usher are flushed", "ip route flush table all proto 118; ip -6 route flush table all proto 118; ip route add local 10.96.0.99 dev lo table 100 proto 118"},
		{"a route is replaced", "ip route replace blackhole 10.96.0.10 table 1970470992"},
		{"a route is added", "ip route add local 10.96.0.12 dev lo table 1970470992 proto 118"},
		{"the interface that refuses goes down", "ip link set usher0 down"},
		{"what is announced is not any more", "ip neigh del proxy 192.0.2.77 dev eth0"},
		{"what is announced by IPv6 is not any more", "ip neigh del proxy 2001:db8::77 dev eth0"},
	} {
		s.Run("sh", "-c", damage.do)
		begun := time.Now()
		netns.Eventually(t, "all is as it was after "+damage.about, func() error {
			if now := s.announcing(); now != wanted {
				return errors.New(now + "\nit was\n" + wanted)
			}
			return nil
		})
		t.Logf("%s: repaired within %s", damage.about, time.Since(begun).Round(10*time.Millisecond))
		for _, family := range []string{vip(10), "http://[fd00:10:96::10]"} {
			served(t, s.client.NS, family)
		}
		s.refusedAt(s.client.NS, "10.96.0.11:80")
	}
	u.WaitLog("somebody else has changed usher's rules or routes")
}

// announcing is routing, sorted, and what the node answers neighbours for. How the
// interface that refuses is numbered may change.
func (s *scene) announcing() string {
	s.t.Helper()
	all := s.routing() + s.Run("ip", "-4", "neigh", "show", "proxy") + s.Run("ip", "-6", "neigh", "show", "proxy")
	lines := strings.Split(strings.ReplaceAll(all, "usher1", "usher0"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// given a usher that was killed while it announced, then the next one takes away what it
// does not announce, and cleanup all of it; entries of others stay.
func TestBindAnnouncementsAfterACrash(t *testing.T) {
	s := newRoutedScene(t)
	s.Run("ip", "neigh", "add", "proxy", "192.0.2.78", "dev", "eth0")
	before := s.announcing()
	s.write("web.yaml", balanced(10, 30080, s.pods[0]))
	crash := func() {
		t.Helper()
		u := usher.Start(t, s.NS, "--manifests="+s.folder, "--capture=bind", "--announce-vips")
		served(t, s.Client, "http://192.0.2.77")
		u.Kill()
		for _, left := range []string{"192.0.2.77 dev eth0", "2001:db8::77 dev eth0"} {
			if !strings.Contains(s.announcing(), left) {
				t.Fatal("a crash left nothing: this test proves nothing")
			}
		}
	}
	crash()
	next := s.startBind()
	served(t, s.client.NS, vip(10))
	if now := s.announcing(); strings.Contains(now, "192.0.2.77 dev eth0") || strings.Contains(now, "2001:db8::77 dev eth0") || !strings.Contains(now, "192.0.2.78 dev eth0") {
		t.Errorf("the next usher announces\n%s", now)
	}
	next.Stop()
	crash()
	if code := s.launch("cleanup").Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if after := s.announcing(); after != before {
		t.Errorf("after cleanup there is\n%s\nbefore there was\n%s", after, before)
	}
}
