package node

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// With maglev a client address has one endpoint, the same on every node, whatever the
// nodes have seen before; and when one endpoint leaves, the clients of the others
// stay where they are.
func TestMaglevOnTwoNodes(t *testing.T) {
	s := newScene(t)
	pods := s.pods
	for i := range 3 {
		p := s.AddPod(netns.Bridged, fmt.Sprintf("pod-%d", 3+i))
		p.ServeHTTP(p.Name, p.AddrPort4(8080))
		pods = append(pods, p)
	}
	write := func(pods []*netns.Pod) {
		var at []netip.Addr
		for _, p := range pods {
			at = append(at, p.IPv4)
		}
		s.write("web.yaml", annotated(manifest("web", 10, 30080, at...), "web", wishes{"balancer": "maglev"}))
	}
	write(pods)
	other := &scene{Node: s.AddNode("node-2"), t: t, folder: s.folder}
	s.start()
	other.start()
	nodes := []string{"192.0.2.1:30080", "192.0.2.3:30080"}
	for _, to := range append(nodes, "10.96.0.10:80") {
		served(t, s.client.NS, "http://"+to)
	}

	clients := addClients(s.Client, 20)
	before := map[netip.Addr]string{}
	used := map[string]bool{}
	for range 2 {
		for _, c := range clients {
			for _, to := range nodes {
				who := askFrom(t, s.Client, c, to)
				if before[c] != "" && before[c] != who {
					t.Errorf("%s gets %s at %s, and %s before", c, who, to, before[c])
				}
				before[c], used[who] = who, true
			}
		}
	}
	if len(used) < len(pods)-1 {
		t.Errorf("20 clients have only %d endpoints", len(used))
	}
	// A pod's address is the same at its own node and at the other one.
	if own, there := answersOf(t, s.client.NS, vip(10), 5), answersOf(t, s.client.NS, "http://"+nodes[1], 5); len(own) != 1 || len(there) != 1 || own[0] != there[0] {
		t.Errorf("a pod gets %q at its own node, and %q at the other", own, there)
	}

	gone := before[clients[0]]
	var left []*netns.Pod
	for _, p := range pods {
		if p.Name != gone {
			left = append(left, p)
		}
	}
	write(left)
	after := map[netip.Addr]string{}
	for _, to := range nodes {
		netns.Eventually(t, gone+" has left at "+to, func() error {
			if who := askFrom(t, s.Client, clients[0], to); who == gone {
				return errNotYet
			}
			return nil
		})
	}
	moved := 0
	for _, c := range clients {
		after[c] = askFrom(t, s.Client, c, nodes[0])
		if who := askFrom(t, s.Client, c, nodes[1]); who != after[c] {
			t.Errorf("%s gets %s at one node and %s at the other", c, after[c], who)
		}
		if before[c] != gone && after[c] != before[c] {
			moved++
		}
	}
	t.Logf("%s has left, %d clients of others moved: %v", gone, moved, maps.Collect(maps.All(after)))
	if moved > 2 {
		t.Errorf("%d of 20 clients moved although their endpoint stayed", moved)
	}
}

// addClients gives a machine more addresses to ask from.
func addClients(ns *netns.NS, n int) (list []netip.Addr) {
	for i := range n {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)})
		ns.Run("ip", "addr", "add", a.String()+"/24", "dev", "eth0")
		list = append(list, a)
	}
	return list
}

// askFrom is who answers one of a machine's addresses.
func askFrom(t *testing.T, ns *netns.NS, client netip.Addr, to string) string {
	t.Helper()
	from := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(client, 0)), Timeout: 5 * time.Second}
	asking := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return ns.DialWith(context.WithoutCancel(ctx), &from, network, address)
		},
	}}
	resp, err := asking.Get("http://" + to)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	who, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(who)
}
