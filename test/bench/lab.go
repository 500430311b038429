package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/usher-proxy/usher/test/netns"
)

// A lab is a node with pods that serve a protocol and one that asks.
type lab struct {
	*netns.Node
	t       testing.TB
	proto   protocol
	client  *netns.Pod
	servers []*netns.Pod
	socket  string // at which usher can be asked, if it can
}

func newLab(t testing.TB, proto protocol) *lab {
	l := &lab{Node: netns.NewNode(t, "node"), t: t, proto: proto}
	l.client = l.AddPod(netns.Bridged, "client")
	// Many thousand new connections a second would use up the ports of the one client, and the
	// node's connection tracking, which remembers each for two minutes.
	l.Sysctl("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "10")
	l.client.Sysctl("net/ipv4/ip_local_port_range", "1025 65535")
	for i := range proto.servers {
		pod := l.AddPod(netns.Routed, fmt.Sprintf("server-%d", i+1))
		proto.serve(l, pod)
		l.servers = append(l.servers, pod)
	}
	for _, pod := range l.servers {
		if err := l.awaitAnswer(pod.AddrPort4(proto.port), startPatience); err != nil {
			t.Fatalf("%s: %v", pod.Name, err)
		}
	}
	return l
}

// launch starts a program in a namespace that writes its output to a file and ends with the
// measurement.
func (l *lab) launch(ns *netns.NS, output, name string, args ...string) *netns.Cmd {
	l.t.Helper()
	f, err := os.Create(output)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close() // the program has its own
	c := ns.Command(context.Background(), name, args...)
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// write writes a file and returns its path.
func (l *lab) write(dir, name, text string) string {
	l.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// startPatience bounds the start of a proxy, on a busy machine too.
const startPatience = 30 * time.Second

// awaitAnswer asks from the client until there is an answer. Each question comes from another
// port: the kernel remembers where it sent a port that asked too early.
func (l *lab) awaitAnswer(addr netip.AddrPort, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := l.proto.ask(l, addr)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer from %s within %v: %w", addr, patience, err)
		}
		time.Sleep(10 * time.Millisecond) // a refusal comes at once
	}
}

func askDNS(l *lab, addr netip.AddrPort) error {
	conn, err := l.client.Dial("udp", addr.String())
	if err != nil {
		return err
	}
	return errors.Join(ask(conn, 1), conn.Close())
}

// clientAddr is a further address of the client, each in a /24 of its own: a proxy may limit
// what clients of one subnet get.
func clientAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 245, byte(i), 1}) }

// addClientAddrs gives the client so many of them.
func (l *lab) addClientAddrs(n int) []netip.Addr {
	l.t.Helper()
	lo, err := l.client.Netlink().LinkByName("lo")
	if err != nil {
		l.t.Fatal(err)
	}
	var addrs []netip.Addr
	for i := range n {
		addr := clientAddr(i)
		only := netlink.NewIPNet(addr.AsSlice())
		if err := l.client.Netlink().AddrAdd(lo, &netlink.Addr{IPNet: only}); err != nil {
			l.t.Fatalf("add address %s to the client: %v", addr, err)
		}
		if err := l.Netlink().RouteAdd(&netlink.Route{Dst: only, Gw: l.client.IPv4.AsSlice()}); err != nil {
			l.t.Fatalf("add route to %s: %v", addr, err)
		}
		addrs = append(addrs, addr)
	}
	return addrs
}
