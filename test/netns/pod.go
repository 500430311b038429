package netns

import (
	"fmt"
	"net/netip"
)

// A PodKind is a way in which network plugins connect pods.
type PodKind int

const (
	// Bridged pods share a subnet behind a bridge that has an address in it.
	Bridged PodKind = iota
	// Routed pods hang on a link of their own whose host end has no IPv4 address: the node
	// answers ARP for everybody, and routes to each pod singly.
	Routed
)

// A Pod is the namespace of one pod.
type Pod struct {
	*NS
	Node       *Node // where it runs
	IPv4, IPv6 netip.Addr
	HostLink   string // name of the node's end of its cable

	linkLocal netip.Prefix // unlike that of any other pod of the node
}

// AddrPort4 is the pod's IPv4 address with a port.
func (p *Pod) AddrPort4(port uint16) netip.AddrPort { return netip.AddrPortFrom(p.IPv4, port) }

// AddrPort6 is the pod's IPv6 address with a port.
func (p *Pod) AddrPort6(port uint16) netip.AddrPort { return netip.AddrPortFrom(p.IPv6, port) }

// AddPod adds a pod to the node. The nth pod of a node has an address that ends in n+1.
func (n *Node) AddPod(kind PodKind, name string) *Pod {
	n.t.Helper()
	if n.pods++; n.pods > maxPods {
		n.t.Fatalf("a node has room for %d pods", maxPods)
	}
	p := &Pod{NS: New(n.t, name), Node: n}
	if kind == Bridged {
		n.addBridged(p)
	} else {
		n.addRouted(p)
	}
	return p
}

func (n *Node) addBridged(p *Pod) {
	n.t.Helper()
	p.HostLink = fmt.Sprintf("veth%d", n.pods)
	p.number(bridgeSubnet)
	cni0 := n.link("cni0")
	hostEnd, eth0 := n.addVeth(p.HostLink, p.NS, "eth0")
	n.must(n.netlink.LinkSetMaster(hostEnd, cni0), "put %s into cni0", p.HostLink)
	// So that a pod reaches itself through a Service.
	n.must(n.netlink.LinkSetHairpin(hostEnd, true), "hairpin mode of %s", p.HostLink)
	n.awaitUp(cni0)

	p.addAddr(eth0, p.linkLocal)
	p.addAddr(eth0, netip.PrefixFrom(p.IPv4, 24))
	p.addAddr(eth0, netip.PrefixFrom(p.IPv6, 64))
	p.addRoute(defaultRoute(n.Bridge4), eth0, n.Bridge4)
	p.addRoute(defaultRoute(n.Bridge6), eth0, n.Bridge6)
}

// proxyARPGateway is nobody: the node answers ARP for it as for any address.
var proxyARPGateway = netip.MustParseAddr("169.254.1.1")

func (n *Node) addRouted(p *Pod) {
	n.t.Helper()
	p.HostLink = fmt.Sprintf("cali%d", n.pods)
	p.number(routedSubnet)
	hostEnd, eth0 := n.addVeth(p.HostLink, p.NS, "eth0")
	n.Sysctl("net/ipv4/conf/"+p.HostLink+"/proxy_arp", "1")
	n.Sysctl("net/ipv4/neigh/"+p.HostLink+"/proxy_delay", "0") // else answers wait for a random time
	n.addAddr(hostEnd, linkLocal)
	n.addRoute(only(p.IPv4), hostEnd, netip.Addr{})
	n.addRoute(only(p.IPv6), hostEnd, netip.Addr{})

	p.addAddr(eth0, p.linkLocal)
	p.addAddr(eth0, only(p.IPv4))
	p.addAddr(eth0, only(p.IPv6))
	p.addRoute(only(proxyARPGateway), eth0, netip.Addr{})
	p.addRoute(defaultRoute(proxyARPGateway), eth0, proxyARPGateway)
	p.addRoute(defaultRoute(linkLocal.Addr()), eth0, linkLocal.Addr())
}

// maxPods is what the last byte of an address has room for.
const maxPods = 253

// number gives the newest pod of a node its address in a subnet of the node's.
func (p *Pod) number(subnet int) {
	host := byte(p.Node.pods + 1)
	p.IPv4 = podIPv4(p.Node.subnet(subnet), host)
	p.IPv6 = podIPv6(p.Node.subnet(subnet), host)
	p.linkLocal = netip.MustParsePrefix(fmt.Sprintf("fe80::%x/64", host))
}
