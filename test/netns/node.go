package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// The lab's addresses.
var (
	NodeIPv4   = netip.MustParseAddr("192.0.2.1") // the first node's own, on eth0
	NodeIPv6   = netip.MustParseAddr("2001:db8::1")
	ClientIPv4 = netip.MustParseAddr("192.0.2.2") // outside the cluster
	ClientIPv6 = netip.MustParseAddr("2001:db8::2")

	ClusterCIDRv4 = netip.MustParsePrefix("10.244.0.0/16") // all pods
	ClusterCIDRv6 = netip.MustParsePrefix("fd00:10:244::/48")
	ServiceCIDRv4 = netip.MustParsePrefix("10.96.0.0/16") // all cluster IPs
	ServiceCIDRv6 = netip.MustParsePrefix("fd00:10:96::/112")
)

// clientMAC is that of the client's eth0, which is a bridge and would change it as nodes come.
var clientMAC = net.HardwareAddr{0x0a, 0x58, 192, 0, 2, 2}

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
// subnet (see [Node.RouteFromClient]). There may be a second one (see [Node.AddNode]).
type Node struct {
	*NS
	IPv4, IPv6           netip.Addr
	PodCIDRv4, PodCIDRv6 netip.Prefix // of the node's pods, and of no other node's
	Bridge4, Bridge6     netip.Addr   // the node's own in the subnet of the bridged pods
	Client               *NS          // a machine outside the cluster; it does not forward

	number int // of this node, from 0
	pods   int // added so far
}

// NewNode builds a node without pods.
func NewNode(t testing.TB, name string) *Node {
	t.Helper()
	client := New(t, name+"-client")
	client.keepBridgeOutOfNetfilter()
	client.addClientLink()
	return newNode(t, name, client, 0)
}

// AddNode builds a second node, without pods, on the link that the first one shares with the
// client:
//
//	eth0 192.0.2.3, 2001:db8::3
//	bridged pods 10.244.5.2 ... fd00:10:244:5::2 ...
//	routed pods  10.244.6.2 ... fd00:10:244:6::2 ...
//
// Each node routes the other one's pods to it.
func (n *Node) AddNode(name string) *Node {
	n.t.Helper()
	if n.number != 0 {
		n.t.Fatal("a lab has room for two nodes, and the first one makes the second")
	}
	other := newNode(n.t, name, n.Client, 1)
	n.routePodsTo(other)
	other.routePodsTo(n)
	return other
}

// newNode builds the node of a number. Each has four of the cluster's /24 and /64 subnets for
// its pods: the second is that of the bridge, the third that of routed pods.
func newNode(t testing.TB, name string, client *NS, number int) *Node {
	t.Helper()
	n := &Node{NS: New(t, name), Client: client, number: number}
	n.IPv4, n.IPv6 = NodeIPv4, NodeIPv6
	for range 2 * number { // one further is the client
		n.IPv4, n.IPv6 = n.IPv4.Next(), n.IPv6.Next()
	}
	n.PodCIDRv4 = netip.PrefixFrom(podIPv4(n.subnet(0), 0), 22)
	n.PodCIDRv6 = netip.PrefixFrom(podIPv6(n.subnet(0), 0), 62)
	n.Bridge4, n.Bridge6 = podIPv4(n.subnet(bridgeSubnet), 1), podIPv6(n.subnet(bridgeSubnet), 1)
	n.Sysctl("net/ipv4/ip_forward", "1")
	n.Sysctl("net/ipv6/conf/all/forwarding", "1")
	n.looseReversePath()
	n.noRedirects()
	n.keepBridgeOutOfNetfilter()
	n.forgetEarlySYNs()
	n.addBridge()
	n.connectClient()
	return n
}

// Subnets of a node.
const (
	bridgeSubnet = 1
	routedSubnet = 2
)

// subnet is the number that one of the node's four subnets has in the cluster.
func (n *Node) subnet(i int) byte { return byte(4*n.number + i) }

// podIPv4 and podIPv6 are addresses in a subnet of the cluster's.
func podIPv4(subnet, host byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 244, subnet, host}) }

func podIPv6(subnet, host byte) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%x::%x", subnet, host))
}

// looseReversePath makes the reverse path filter what most distributions set.
func (n *Node) looseReversePath() {
	n.Sysctl("net/ipv4/conf/all/rp_filter", "2")
	n.Sysctl("net/ipv4/conf/default/rp_filter", "2")
}

// noRedirects keeps the node from telling a neighbour that another way is shorter. After nine
// such ICMP messages the kernel keeps them back for 20 seconds, and with them the ICMP errors by
// which that neighbour is refused: they share a rate limit.
func (n *Node) noRedirects() {
	n.Sysctl("net/ipv4/conf/all/send_redirects", "0")
	n.Sysctl("net/ipv4/conf/default/send_redirects", "0")
}

// keepBridgeOutOfNetfilter makes the lab independent of whether the machine has br_netfilter
// loaded, which passes bridged packets through iptables.
func (ns *NS) keepBridgeOutOfNetfilter() {
	ns.sysctlOfModule("net/bridge/bridge-nf-call-iptables", "0")
	ns.sysctlOfModule("net/bridge/bridge-nf-call-ip6tables", "0")
}

// forgetEarlySYNs makes the node forget soon a connect that came before there was a rule for it.
// Conntrack remembers such a one as not translated, for two minutes, and within that time loses
// every later connect from the same port, with all its repetitions.
func (n *Node) forgetEarlySYNs() {
	n.sysctlOfModule("net/netfilter/nf_conntrack_tcp_timeout_syn_sent", "1")
}

// sysctlOfModule sets what is only there if the machine has loaded a module.
func (ns *NS) sysctlOfModule(name, value string) {
	loaded := false
	ns.Do(func() {
		_, err := os.Stat("/proc/sys/" + name)
		loaded = err == nil
	})
	if loaded {
		ns.Sysctl(name, value)
	}
}

func (n *Node) addBridge() {
	n.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "cni0"
	ip := n.Bridge4.As4()
	attrs.HardwareAddr = append(net.HardwareAddr{0x0a, 0x58}, ip[:]...) // else it would change as pods come and go
	n.must(n.netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}), "add bridge cni0")
	cni0 := n.link("cni0")
	n.up(cni0)
	n.addAddr(cni0, linkLocal)
	n.addAddr(cni0, netip.PrefixFrom(n.Bridge4, 24))
	n.addAddr(cni0, netip.PrefixFrom(n.Bridge6, 64))
}

// addClientLink gives a client the link that nodes are connected to, and its addresses.
func (ns *NS) addClientLink() {
	ns.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	attrs.HardwareAddr = clientMAC
	ns.must(ns.netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}), "add bridge eth0")
	eth0 := ns.link("eth0")
	ns.up(eth0)
	ns.addAddr(eth0, netip.PrefixFrom(linkLocal.Addr().Next(), 64))
	ns.addAddr(eth0, netip.PrefixFrom(ClientIPv4, 24))
	ns.addAddr(eth0, netip.PrefixFrom(ClientIPv6, 64))
}

func (n *Node) connectClient() {
	n.t.Helper()
	clientEth0 := n.Client.link("eth0")
	port := fmt.Sprintf("port%d", n.number)
	eth0, clientPort := n.addVeth("eth0", n.Client, port)
	n.must(n.Client.netlink.LinkSetMaster(clientPort, clientEth0), "put %s into the client's eth0", port)
	n.Client.awaitUp(clientEth0)
	n.addAddr(eth0, n.linkLocal())
	n.addAddr(eth0, netip.PrefixFrom(n.IPv4, 24))
	n.addAddr(eth0, netip.PrefixFrom(n.IPv6, 64))

	// Without a route, a process of the node could not even try to reach a VIP.
	n.addRoute(defaultRoute(ClientIPv4), eth0, ClientIPv4)
	n.addRoute(defaultRoute(ClientIPv6), eth0, ClientIPv6)
}

// linkLocal is the node's IPv6 link-local address on eth0, unlike the client's or the other
// node's.
func (n *Node) linkLocal() netip.Prefix {
	if n.number == 0 {
		return linkLocal
	}
	return netip.PrefixFrom(linkLocal.Addr().Next().Next(), 64)
}

// routePodsTo makes the pods of another node reachable.
func (n *Node) routePodsTo(other *Node) {
	n.t.Helper()
	n.addRoute(other.PodCIDRv4, n.link("eth0"), other.IPv4)
	n.addRoute(other.PodCIDRv6, n.link("eth0"), other.IPv6)
}

// RouteFromClient gives the client routes through the node, such as to the service CIDRs.
func (n *Node) RouteFromClient(to ...netip.Prefix) {
	n.t.Helper()
	for _, p := range to {
		via := n.IPv4
		if p.Addr().Is6() {
			via = n.IPv6
		}
		n.Client.addRoute(p, n.Client.link("eth0"), via)
	}
}
