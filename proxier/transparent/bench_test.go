package transparent

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/test/netns"
)

func BenchmarkObstacle(b *testing.B) {
	node := netns.NewNode(b, "node")
	client, endpoint := node.AddPod(netns.Bridged, "client"), node.AddPod(netns.Routed, "endpoint")
	paths := newPaths(b, node)
	f := Flow{Client: client.IPv4, Endpoint: endpoint.IPv4, ClientHere: true, EndpointHere: true}
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			paths.Obstacle(f)
		}
	})
	b.Run("cached, parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				paths.Obstacle(f)
			}
		})
	})
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			paths.Forget()
			paths.Obstacle(f)
		}
	})
}

func BenchmarkDevice(b *testing.B) {
	node := netns.NewNode(b, "node")
	paths := newPaths(b, node)
	for name, before := range map[string]func(){"cached": func() {}, "uncached": paths.Forget} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				before()
				paths.Device(netns.ClientIPv4)
			}
		})
	}
}

// BenchmarkEnsure is a pass that finds everything in place, on a node with
// routes to many pods.
func BenchmarkEnsure(b *testing.B) {
	l := newLab(b, variant{iptables.IPv4, "nft"})
	for i := range 2000 {
		l.must(l.Netlink().RouteAdd(podRoute(b, l, i)))
	}
	l.Do(func() {
		b.ReportAllocs()
		for b.Loop() {
			if err := (Routes{mark}).Ensure(iptables.IPv4); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkConnect compares a connection from the client's address with one
// from the node's.
func BenchmarkConnect(b *testing.B) {
	l := newLab(b, variant{iptables.IPv4, "nft"})
	client, endpoint := l.AddPod(netns.Bridged, "client"), l.AddPod(netns.Routed, "endpoint")
	echo := endpoint.ServeTCPEcho(endpoint.AddrPort4(7))
	for name, d := range map[string]*net.Dialer{"node": {}, "client": dialer(client.IPv4)} {
		b.Run(name, func(b *testing.B) {
			l.Do(func() {
				for b.Loop() {
					conn, err := d.Dial("tcp", echo.Addr.String())
					if err != nil {
						b.Fatal(err)
					}
					conn.(*net.TCPConn).SetLinger(0) // no TIME_WAIT
					conn.Close()
				}
			})
		})
	}
}

func podRoute(b *testing.B, l *lab, i int) *netlink.Route {
	b.Helper()
	eth0, err := l.Netlink().LinkByName("eth0")
	l.must(err)
	dst := netip.AddrFrom4([4]byte{10, 245, byte(i >> 8), byte(i)})
	return &netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: &net.IPNet{IP: dst.AsSlice(), Mask: net.CIDRMask(32, 32)}}
}
