package conformance

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// zones are those of the nodes, by name.
var zones = map[string]string{"node-1": "zone-a", "node-2": "zone-b"}

// nodeObject is the object of a node, as kubelet and the cloud would write it.
func nodeObject(n *netns.Node) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.Name,
			Labels: map[string]string{
				corev1.LabelHostname:     n.Name,
				corev1.LabelTopologyZone: zones[n.Name],
			},
		},
		Spec: corev1.NodeSpec{
			PodCIDR:  n.PodCIDRv4.String(),
			PodCIDRs: []string{n.PodCIDRv4.String(), n.PodCIDRv6.String()},
		},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: n.IPv4.String()},
			{Type: corev1.NodeInternalIP, Address: n.IPv6.String()},
			{Type: corev1.NodeHostName, Address: n.Name},
		}},
	}
}

// changeNode changes the object of a node until the case ends. A deletion
// timestamp is kept too: the object is about to be deleted, and still there.
func (w *World) changeNode(n *netns.Node, change func(*corev1.Node)) {
	w.t.Helper()
	o := nodeObject(n)
	change(o)
	w.Apply(o)
	w.t.Cleanup(func() { w.Apply(nodeObject(n)) })
}

// nodeIPs are the addresses by which a node is known, with a port.
func nodeIPs(n *netns.Node, port int32) []netip.AddrPort { return withPort(port, n.IPv4, n.IPv6) }

// bridgeIPs are the addresses that a node has on its bridge, with a port.
func bridgeIPs(n *netns.Node, port int32) []netip.AddrPort {
	return withPort(port, n.Bridge4, n.Bridge6)
}

// loopbackIPs are the addresses that every namespace has, with a port.
func loopbackIPs(port int32) []netip.AddrPort {
	return withPort(port, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
}

func withPort(port int32, addrs ...netip.Addr) (list []netip.AddrPort) {
	for _, a := range addrs {
		list = append(list, netip.AddrPortFrom(a, uint16(port)))
	}
	return list
}
