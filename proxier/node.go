package proxier

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// nodeState is what one pass knows of this node. It is never changed.
type nodeState struct {
	addresses nodeAddresses
	nodeIPs   []netip.Addr // as the Node object tells them, or --node-ip; best first
	zone      string
	clients   *clients
	nodePorts NodePortAddresses
	open      []uint16 // ports of our own that the outside must reach
}

// newNodeState puts together what is known. node is nil if there is no such
// object; device names the network device behind which an address is.
func newNodeState(cfg *Config, addresses nodeAddresses, node *corev1.Node, device func(netip.Addr) string) *nodeState {
	n := &nodeState{
		addresses: addresses, nodeIPs: cfg.NodeIPs, nodePorts: cfg.NodePortAddresses,
		clients: newClients(cfg.LocalPods, node, addresses.all(), device),
	}
	if len(n.nodeIPs) == 0 {
		n.nodeIPs = nodeIPsOf(node)
	}
	if node != nil {
		n.zone = node.Labels[corev1.LabelTopologyZone]
	}
	return n
}

// same says whether another pass has found the same.
func (n *nodeState) same(other *nodeState) bool {
	return maps.EqualFunc(n.addresses.byInterface, other.addresses.byInterface, slices.Equal) &&
		slices.Equal(n.nodeIPs, other.nodeIPs) && n.zone == other.zone && slices.Equal(n.open, other.open) &&
		slices.Equal(n.clients.certain, other.clients.certain) && slices.Equal(n.clients.pods, other.clients.pods)
}

// primary is the node's own address in a family; invalid if there is none.
func (n *nodeState) primary(family Family) netip.Addr {
	return n.addresses.primary(family, n.nodeIPs)
}

// named is the node's address in a family that its Node object or --node-ip
// names; invalid if it has none of these.
func (n *nodeState) named(family Family) netip.Addr {
	all := n.addresses.all()
	for _, a := range n.nodeIPs {
		if familyOf(a) == family && all[a] {
			return a
		}
	}
	return netip.Addr{}
}

// serving are the node's addresses on which NodePorts are served.
func (n *nodeState) serving(family Family) []netip.Addr {
	return n.nodePorts.choose(family, n.addresses.bindable(family), n.named(family))
}

// checkAddresses are those on which load balancers are answered: where NodePorts
// are.
func (n *nodeState) checkAddresses() (addrs []netip.Addr) {
	for _, family := range []Family{IPv4, IPv6} {
		if n.nodePorts.prefixes(family, n.named(family)) == nil {
			addrs = append(addrs, family.wildcard())
		} else {
			addrs = append(addrs, n.serving(family)...)
		}
	}
	return addrs
}

// nodeIPsOf are the addresses of a Node object, best first.
func nodeIPsOf(node *corev1.Node) (ips []netip.Addr) {
	if node == nil {
		return nil
	}
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range node.Status.Addresses {
			if ip, ok := ParseAddr(a.Address); ok && a.Type == kind {
				ips = append(ips, ip)
			}
		}
	}
	return ips
}
