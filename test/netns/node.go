package netns

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// The lab's addresses.
var (
	NodeIPv4   = netip.MustParseAddr("192.0.2.1") // the node's own, on eth0
	NodeIPv6   = netip.MustParseAddr("2001:db8::1")
	ClientIPv4 = netip.MustParseAddr("192.0.2.2") // outside the cluster
	ClientIPv6 = netip.MustParseAddr("2001:db8::2")

	ClusterCIDRv4 = netip.MustParsePrefix("10.244.0.0/16") // all pods
	ClusterCIDRv6 = netip.MustParsePrefix("fd00:10:244::/48")
	ServiceCIDRv4 = netip.MustParsePrefix("10.96.0.0/16") // all cluster IPs
	ServiceCIDRv6 = netip.MustParsePrefix("fd00:10:96::/112")
)

var (
	bridgeIPv4 = netip.MustParseAddr("10.244.1.1")
	bridgeIPv6 = netip.MustParseAddr("fd00:10:244:1::1")
	bridgeMAC  = net.HardwareAddr{0x0a, 0x58, 10, 244, 1, 1}
)

// A Node is what one Kubernetes node looks like before a Service proxy starts on it:
//
//	      Client                        node
//	192.0.2.2 eth0 -------- eth0 192.0.2.1
//	2001:db8::2                  2001:db8::1
//	                             cni0 10.244.1.1/24 --- bridged pods 10.244.1.2, .3 ...
//	                                  fd00:10:244:1::1/64
//	                             cali1 (no address) --- routed pod 10.244.2.2
//	                             cali2 (no address) --- routed pod 10.244.2.3 ...
//
// It forwards, its default route leads to the client, and the client knows only the node's
// subnet (see [Node.RouteFromClient]).
type Node struct {
	*NS
	Client *NS // a machine outside the cluster; it does not forward

	pods int // added so far
}

// NewNode builds a node without pods.
func NewNode(t testing.TB, name string) *Node {
	t.Helper()
	n := &Node{NS: New(t, name), Client: New(t, name+"-client")}
	n.Sysctl("net/ipv4/ip_forward", "1")
	n.Sysctl("net/ipv6/conf/all/forwarding", "1")
	n.looseReversePath()
	n.keepBridgeOutOfNetfilter()
	n.addBridge()
	n.connectClient()
	return n
}

// looseReversePath makes the reverse path filter what most distributions set.
func (n *Node) looseReversePath() {
	n.Sysctl("net/ipv4/conf/all/rp_filter", "2")
	n.Sysctl("net/ipv4/conf/default/rp_filter", "2")
}

// keepBridgeOutOfNetfilter makes the lab independent of whether the machine has br_netfilter
// loaded, which passes bridged packets through iptables.
func (n *Node) keepBridgeOutOfNetfilter() {
	for _, name := range []string{"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"} {
		loaded := false
		n.Do(func() {
			_, err := os.Stat("/proc/sys/" + name)
			loaded = err == nil
		})
		if loaded {
			n.Sysctl(name, "0")
		}
	}
}

func (n *Node) addBridge() {
	n.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "cni0"
	attrs.HardwareAddr = bridgeMAC // else it would change as pods come and go
	n.must(n.netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}), "add bridge cni0")
	cni0 := n.link("cni0")
	n.up(cni0)
	n.addAddr(cni0, linkLocal)
	n.addAddr(cni0, netip.PrefixFrom(bridgeIPv4, 24))
	n.addAddr(cni0, netip.PrefixFrom(bridgeIPv6, 64))
}

func (n *Node) connectClient() {
	n.t.Helper()
	eth0, clientEth0 := n.addVeth("eth0", n.Client, "eth0")
	n.addAddr(eth0, linkLocal)
	n.addAddr(eth0, netip.PrefixFrom(NodeIPv4, 24))
	n.addAddr(eth0, netip.PrefixFrom(NodeIPv6, 64))
	n.Client.addAddr(clientEth0, netip.PrefixFrom(linkLocal.Addr().Next(), 64))
	n.Client.addAddr(clientEth0, netip.PrefixFrom(ClientIPv4, 24))
	n.Client.addAddr(clientEth0, netip.PrefixFrom(ClientIPv6, 64))

	// Without a route, a process of the node could not even try to reach a VIP.
	n.addRoute(defaultRoute(ClientIPv4), eth0, ClientIPv4)
	n.addRoute(defaultRoute(ClientIPv6), eth0, ClientIPv6)
}

// RouteFromClient gives the client routes through the node, such as to the service CIDRs.
func (n *Node) RouteFromClient(to ...netip.Prefix) {
	n.t.Helper()
	for _, p := range to {
		via := NodeIPv4
		if p.Addr().Is6() {
			via = NodeIPv6
		}
		n.Client.addRoute(p, n.Client.link("eth0"), via)
	}
}
