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

	"github.com/usher-proxy/usher/test/dns"
	"github.com/usher-proxy/usher/test/netns"
)

// A lab is a node with three pods that answer DNS queries and one that asks.
type lab struct {
	*netns.Node
	b       *testing.B
	client  *netns.Pod
	servers []*netns.Pod
}

func newLab(b *testing.B) *lab {
	l := &lab{Node: netns.NewNode(b, "node"), b: b}
	l.client = l.AddPod(netns.Bridged, "client")
	for i := range 3 {
		pod := l.AddPod(netns.Routed, fmt.Sprintf("server-%d", i+1))
		dns.Serve(b, pod.NS, pod.Name, pod.AddrPort4(dnsPort))
		l.servers = append(l.servers, pod)
	}
	return l
}

// launch starts a program of the node that writes its output to a file and ends with the measurement.
func (l *lab) launch(output, name string, args ...string) *netns.Cmd {
	l.b.Helper()
	f, err := os.Create(output)
	if err != nil {
		l.b.Fatal(err)
	}
	defer f.Close() // the program has its own
	c := l.Command(context.Background(), name, args...)
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		l.b.Fatal(err)
	}
	return c
}

// write writes a file and returns its path.
func (l *lab) write(dir, name, text string) string {
	l.b.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.b.Fatal(err)
	}
	return path
}

// startPatience bounds the start of a proxy.
const startPatience = 10 * time.Second

// awaitAnswer asks from the client until there is an answer. Each question comes from another
// port: the kernel remembers where it sent a port that asked too early.
func (l *lab) awaitAnswer(addr netip.AddrPort) error {
	deadline := time.Now().Add(startPatience)
	for {
		err := l.askOnce(addr)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer from %s within %v: %w", addr, startPatience, err)
		}
		time.Sleep(10 * time.Millisecond) // a refusal comes at once
	}
}

func (l *lab) askOnce(addr netip.AddrPort) error {
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
	l.b.Helper()
	lo, err := l.client.Netlink().LinkByName("lo")
	if err != nil {
		l.b.Fatal(err)
	}
	var addrs []netip.Addr
	for i := range n {
		addr := clientAddr(i)
		only := netlink.NewIPNet(addr.AsSlice())
		if err := l.client.Netlink().AddrAdd(lo, &netlink.Addr{IPNet: only}); err != nil {
			l.b.Fatalf("add address %s to the client: %v", addr, err)
		}
		if err := l.Netlink().RouteAdd(&netlink.Route{Dst: only, Gw: l.client.IPv4.AsSlice()}); err != nil {
			l.b.Fatalf("add route to %s: %v", addr, err)
		}
		addrs = append(addrs, addr)
	}
	return addrs
}
