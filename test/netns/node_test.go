package netns

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
)

// given a node with every kind of pod, when anybody who may connects to any other, over
// either family, then the connection succeeds at once and arrives from the sender's address.
func TestEverybodyReachesEverybody(t *testing.T) {
	node := NewNode(t, "node")
	bridged1, bridged2 := node.AddPod(Bridged, "bridged1"), node.AddPod(Bridged, "bridged2")
	routed1, routed2 := node.AddPod(Routed, "routed1"), node.AddPod(Routed, "routed2")
	node.RouteFromClient(ClusterCIDRv4, ClusterCIDRv6)

	members := []struct {
		ns     *NS
		v4, v6 netip.Addr
	}{
		{bridged1.NS, bridged1.IPv4, bridged1.IPv6},
		{bridged2.NS, bridged2.IPv4, bridged2.IPv6},
		{routed1.NS, routed1.IPv4, routed1.IPv6},
		{routed2.NS, routed2.IPv4, routed2.IPv6},
		{node.NS, NodeIPv4, NodeIPv6},
		{node.Client, ClientIPv4, ClientIPv6},
	}
	for _, to := range members {
		for _, addrs := range []func(int) netip.Addr{
			func(i int) netip.Addr { return members[i].v4 },
			func(i int) netip.Addr { return members[i].v6 },
		} {
			family := addrs(0)
			toIP := to.v4
			if family.Is6() {
				toIP = to.v6
			}
			backend := to.ns.ServeHTTP(to.ns.Name, netip.AddrPortFrom(toIP, 8080))
			for i, from := range members {
				t.Run(fmt.Sprintf("%s to %v", from.ns.Name, toIP), func(t *testing.T) {
					name, err := from.ns.Get(fmt.Sprintf("http://%v/", backend.Addr))
					if err != nil || name != to.ns.Name {
						t.Errorf("answer %q, %v; want %q", name, err, to.ns.Name)
					}
					client, err := from.ns.Get(fmt.Sprintf("http://%v/clientip", backend.Addr))
					if err != nil {
						t.Fatal(err)
					}
					// The node itself uses the address of the link it sends from.
					if got := netip.MustParseAddrPort(client).Addr(); got != addrs(i) && from.ns != node.NS {
						t.Errorf("seen as %v, want %v", got, addrs(i))
					}
				})
			}
		}
	}
}

// given a client without a route to the pods, when it connects to one, then it cannot.
func TestClientKnowsOnlyTheNode(t *testing.T) {
	node := NewNode(t, "node")
	pod := node.AddPod(Bridged, "pod")
	backend := pod.ServeTCPEcho(pod.AddrPort4(0))
	conn, err := node.Client.Dial("tcp", backend.Addr.String())
	if err == nil {
		conn.Close()
		t.Error("the client reached a pod")
	}
}

// given a routed pod, then the host end of its cable has no IPv4 address and only a link-local
// IPv6 address.
func TestRoutedPodHangsOnAddresslessLink(t *testing.T) {
	node := NewNode(t, "node")
	pod := node.AddPod(Routed, "pod")
	addrs, err := node.Netlink().AddrList(node.link(pod.HostLink), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() || a.IP.To4() != nil {
			t.Errorf("%s has the address %v", pod.HostLink, a)
		}
	}
}

// given a TCP and a UDP echo server, when bytes are sent, then they come back, and the end of
// a stream does too.
func TestEcho(t *testing.T) {
	node := NewNode(t, "node")
	pod := node.AddPod(Bridged, "pod")
	for _, addr := range []netip.AddrPort{pod.AddrPort4(0), pod.AddrPort6(0)} {
		tcp, err := node.Dial("tcp", pod.ServeTCPEcho(addr).Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		io.WriteString(tcp, "hello")
		tcp.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(tcp); err != nil || string(got) != "hello" {
			t.Errorf("tcp: %q, %v", got, err)
		}

		udp, err := node.Dial("udp", pod.ServeUDPEcho(addr).Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		io.WriteString(udp, "hello")
		buf := make([]byte, 10)
		if n, err := udp.Read(buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("udp: %q, %v", buf[:n], err)
		}
	}
}

// given two nodes with pods of every kind, when one of them connects to another node or its
// pods, then it arrives with the sender's address; the client reaches both nodes.
func TestTwoNodes(t *testing.T) {
	one := NewNode(t, "one")
	two := one.AddNode("two")
	type member struct {
		*NS
		v4, v6 netip.Addr
	}
	members := []member{{one.Client, ClientIPv4, ClientIPv6}}
	for _, n := range []*Node{one, two} {
		members = append(members, member{n.NS, n.IPv4, n.IPv6})
		for _, kind := range []PodKind{Bridged, Routed} {
			pod := n.AddPod(kind, fmt.Sprintf("%s-%d", n.Name, kind))
			members = append(members, member{pod.NS, pod.IPv4, pod.IPv6})
			if !n.PodCIDRv4.Contains(pod.IPv4) || !n.PodCIDRv6.Contains(pod.IPv6) {
				t.Errorf("%s has addresses %v and %v", pod.Name, pod.IPv4, pod.IPv6)
			}
		}
		n.RouteFromClient(n.PodCIDRv4, n.PodCIDRv6)
	}
	if one.PodCIDRv4.Overlaps(two.PodCIDRv4) || one.PodCIDRv6.Overlaps(two.PodCIDRv6) {
		t.Error("the nodes share a pod CIDR")
	}
	for _, to := range members {
		to.ServeHTTP(to.Name, netip.AddrPortFrom(to.v4, 8080))
		to.ServeHTTP(to.Name, netip.AddrPortFrom(to.v6, 8080))
		for _, from := range members {
			for _, path := range []struct{ from, to netip.Addr }{{from.v4, to.v4}, {from.v6, to.v6}} {
				client, err := from.Get(fmt.Sprintf("http://%v/clientip", netip.AddrPortFrom(path.to, 8080)))
				if err != nil {
					t.Errorf("%s to %v: %v", from.Name, path.to, err)
					continue
				}
				// A node uses the address of the link it sends from.
				isNode := from.NS == one.NS || from.NS == two.NS
				if got := netip.MustParseAddrPort(client).Addr(); got != path.from && !isNode {
					t.Errorf("%s to %v: seen as %v", from.Name, path.to, got)
				}
			}
		}
	}
}
