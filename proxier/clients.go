package proxier

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/iptables"
)

// clientKind is where a client is, as seen from this node.
type clientKind string

const (
	nodeClient     clientKind = "node"     // a process of this node
	podClient      clientKind = "pod"      // a pod that counts as this node's
	externalClient clientKind = "external" // anybody else
)

// here says whether a client counts as being on this node.
func (k clientKind) here() bool { return k != externalClient }

// clients tells where clients are. It is never changed.
type clients struct {
	local map[netip.Addr]bool // addresses of the node
	pods  []netip.Prefix      // addresses of pods that count as the node's
	// interfaces are those that such pods are behind: a name, or with a + at the
	// end the beginning of names. device tells the one behind which an address is.
	interfaces []string
	device     func(netip.Addr) string
	// certain are the addresses that are those of this node's pods for sure:
	// what is sent to them comes through this node.
	certain []netip.Prefix
}

// newClients applies --detect-local-mode.
func newClients(mode LocalPods, node *corev1.Node, local map[netip.Addr]bool, device func(netip.Addr) string) *clients {
	c := &clients{local: local, certain: podCIDRs(node), device: device}
	switch mode.Mode {
	case "ClusterCIDR":
		c.pods = mode.ClusterCIDRs
	case "BridgeInterface":
		c.interfaces = []string{mode.Interface}
	case "InterfaceNamePrefix":
		c.interfaces = []string{mode.Interface + "+"}
	default:
		c.pods = c.certain
	}
	return c
}

// podCIDRs are where the node's pods get their addresses from, as the Node
// object says (Node.spec.podCIDRs).
func podCIDRs(node *corev1.Node) (list []netip.Prefix) {
	if node == nil {
		return nil
	}
	texts := node.Spec.PodCIDRs
	if len(texts) == 0 {
		texts = []string{node.Spec.PodCIDR}
	}
	for _, text := range texts {
		if p, ok := ParsePrefix(text); ok {
			list = append(list, p)
		}
	}
	return list
}

func (c *clients) kind(client netip.Addr) clientKind {
	switch {
	case c.local[client] || client.IsLoopback():
		return nodeClient
	case contains(c.pods, client), c.behind(client):
		return podClient
	}
	return externalClient
}

// isPodHere says whether what is sent to an address comes through this node
// because it is that of a pod on it.
func (c *clients) isPodHere(a netip.Addr) bool { return contains(c.certain, a) || c.behind(a) }

func (c *clients) behind(a netip.Addr) bool {
	if len(c.interfaces) == 0 || c.device == nil {
		return false
	}
	name := c.device(a)
	return slices.ContainsFunc(c.interfaces, func(i string) bool {
		prefix, isPrefix := strings.CutSuffix(i, "+")
		return name == i || isPrefix && name != "" && strings.HasPrefix(name, prefix)
	})
}

// matchers are the same for iptables.
func (c *clients) matchers(family Family) iptables.Pods {
	return iptables.Pods{Prefixes: inFamily(c.pods, family), Interfaces: c.interfaces}
}

// prefixes are the addresses of the node and of its pods, as far as these are
// known by their addresses.
func (c *clients) prefixes(family Family) []netip.Prefix {
	list := append(inFamily(c.pods, family), family.loopback())
	for a := range c.local {
		if familyOf(a) == family && !a.IsLoopback() {
			list = append(list, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return list
}

func inFamily(prefixes []netip.Prefix, family Family) (list []netip.Prefix) {
	for _, p := range prefixes {
		if familyOf(p.Addr()) == family {
			list = append(list, p)
		}
	}
	return list
}
