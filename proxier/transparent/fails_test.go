package transparent

import (
	"net/netip"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

// given clients and endpoints between which packets go past the node's IP
// stack, when the decision is asked for, then it names the obstacle; when the
// endpoint is dialled from the client's address all the same, then nothing
// comes back.
func TestObstaclesAreReal(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		other := l.AddNode("other")
		pod, neighbour := l.AddPod(netns.Bridged, "pod"), l.AddPod(netns.Bridged, "neighbour")
		remote := other.AddPod(netns.Bridged, "remote")
		for _, p := range []*netns.Pod{pod, neighbour, remote} {
			p.ServeHTTP(p.Name, netip.AddrPortFrom(v.pod(p), 8080))
			p.ServeUDPEcho(netip.AddrPortFrom(v.pod(p), 7))
		}
		l.ServeHTTP("node", netip.AddrPortFrom(v.node(), 8080))
		l.ServeUDPEcho(netip.AddrPortFrom(v.node(), 7))
		l.returning()
		for _, c := range []struct {
			client, endpoint         netip.Addr
			clientHere, endpointHere bool
			want                     Obstacle
		}{
			{v.pod(pod), v.pod(neighbour), true, true, SameDevice},
			{v.pod(pod), v.pod(pod), true, true, Hairpin},
			{v.pod(pod), v.node(), true, true, HostEndpoint},
			{v.client(), v.node(), false, true, HostEndpoint},
			{v.client(), v.pod(remote), false, false, SameDevice},
		} {
			f := Flow{c.client, c.endpoint, c.clientHere, c.endpointHere}
			if o := l.obstacle(f); o != c.want {
				t.Errorf("%s to %s: obstacle %q, want %q", c.client, c.endpoint, o, c.want)
			}
			l.mustNotConnect(c.client, netip.AddrPortFrom(c.endpoint, 8080))
			l.mustNotAnswer(c.client, netip.AddrPortFrom(c.endpoint, 7))
		}
	})
}

// given a process of the node as the client, when the decision is asked for,
// then nothing is to be preserved: it has the node's address either way.
func TestHostClient(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		pod := l.AddPod(netns.Bridged, "pod")
		for _, client := range []netip.Addr{v.node(), v.addr(l.Bridge4, l.Bridge6), v.addr(netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())} {
			f := Flow{Client: client, Endpoint: v.pod(pod), ClientHere: true, EndpointHere: true}
			if o := l.obstacle(f); o != HostClient {
				t.Errorf("%s: obstacle %q, want %q", client, o, HostClient)
			}
		}
	})
}

// given a tunnel to the endpoint's node, when the client is not on this node,
// then the endpoint's node replies directly to it, though this node reaches the
// two by different devices; when the client is a pod of this node, then the
// reply comes back, though not through the tunnel.
func TestTunnel(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		other := l.AddNode("other")
		remote, pod := other.AddPod(netns.Bridged, "remote"), l.AddPod(netns.Bridged, "pod")
		web := remote.ServeHTTP("remote", netip.AddrPortFrom(v.pod(remote), 8080))
		l.tunnel(other, v.pod(remote))
		if device, err := l.paths.Device(v.pod(remote)); err != nil || device != "tunnel" {
			t.Fatalf("the endpoint is behind %q, %v; want tunnel", device, err)
		}

		f := Flow{Client: v.client(), Endpoint: v.pod(remote)}
		if o := l.obstacle(f); o != Elsewhere {
			t.Errorf("client outside: obstacle %q, want %q", o, Elsewhere)
		}
		l.mustNotConnect(v.client(), web.Addr)

		f = Flow{Client: v.pod(pod), Endpoint: v.pod(remote), ClientHere: true}
		if o := l.obstacle(f); o != None {
			t.Errorf("client here: obstacle %q", o)
		}
		if seen, err := l.seenBy(web, v.pod(pod)); err != nil || seen != v.pod(pod) {
			t.Errorf("client here: the endpoint sees %s, %v", seen, err)
		}
	})
}

// tunnel sends what is for a pod of the other node through VXLAN.
func (l *lab) tunnel(other *netns.Node, pod netip.Addr) {
	l.t.Helper()
	const mac = "0a:58:00:00:00:01"
	add := func(node, peer *netns.Node) {
		node.Run("ip", "link", "add", "tunnel", "type", "vxlan", "id", "7", "dstport", "4789",
			"local", node.IPv4.String(), "remote", peer.IPv4.String())
	}
	add(l.Node, other)
	add(other, l.Node)
	other.Run("ip", "link", "set", "tunnel", "address", mac)
	l.Run("ip", "link", "set", "tunnel", "up")
	other.Run("ip", "link", "set", "tunnel", "up")
	other.Run("ip", "addr", "add", "10.99.0.1/32", "dev", "tunnel") // else no loose reverse path
	l.Run("ip", "route", "add", pod.String(), "dev", "tunnel", "src", l.node().String())
	l.Run("ip", "neigh", "add", pod.String(), "lladdr", mac, "dev", "tunnel")
}
