package proxier

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/iptables"
)

func prefixes(texts string) (list []netip.Prefix) {
	for _, text := range strings.Fields(texts) {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func TestNodePortAddresses(t *testing.T) {
	var all []netip.Addr
	for _, text := range strings.Fields("127.0.0.1 10.244.1.1 192.0.2.1 192.0.2.77 ::1 2001:db8::1 fd00::1") {
		all = append(all, netip.MustParseAddr(text))
	}
	primary := map[Family]netip.Addr{IPv4: netip.MustParseAddr("192.0.2.1"), IPv6: netip.MustParseAddr("2001:db8::1")}
	for _, c := range []struct {
		name    string
		n       NodePortAddresses
		v4, v6  string
		unknown bool // the primary addresses
	}{
		{"not given: all", NodePortAddresses{}, "127.0.0.1 10.244.1.1 192.0.2.1 192.0.2.77", "::1 2001:db8::1 fd00::1", false},
		{"all but loopback", NodePortAddresses{NotLocalhost: true}, "10.244.1.1 192.0.2.1 192.0.2.77", "2001:db8::1 fd00::1", false},
		{"a CIDR of one family leaves the other one open", NodePortAddresses{CIDRs: prefixes("192.0.2.0/24")}, "192.0.2.1 192.0.2.77", "::1 2001:db8::1 fd00::1", false},
		{"CIDRs of both", NodePortAddresses{CIDRs: prefixes("192.0.2.77/32 fd00::/8")}, "192.0.2.77", "fd00::1", false},
		{"/0 is all", NodePortAddresses{CIDRs: prefixes("192.0.2.77/32 0.0.0.0/0 fd00::/8")}, "127.0.0.1 10.244.1.1 192.0.2.1 192.0.2.77", "fd00::1", false},
		{"primary", NodePortAddresses{Primary: true}, "192.0.2.1", "2001:db8::1", false},
		{"primary and localhost", NodePortAddresses{Primary: true, Localhost: true}, "127.0.0.1 192.0.2.1", "::1 2001:db8::1", false},
		{"localhost only", NodePortAddresses{Localhost: true}, "127.0.0.1", "::1", false},
		{"primary and a CIDR", NodePortAddresses{Primary: true, CIDRs: prefixes("10.0.0.0/8")}, "10.244.1.1 192.0.2.1", "2001:db8::1", false},
		{"an unknown primary address is none, not all", NodePortAddresses{Primary: true}, "", "", true},
		{"127.0.0.0/8 holds the loopback addresses", NodePortAddresses{CIDRs: prefixes("127.0.0.0/8 ::1/128")}, "127.0.0.1", "::1", false},
		{"unless they are not wanted at all", NodePortAddresses{CIDRs: prefixes("127.0.0.0/8 ::1/128"), NotLocalhost: true}, "", "", false},
	} {
		for family, want := range map[Family]string{IPv4: c.v4, IPv6: c.v6} {
			known := primary[family]
			if c.unknown {
				known = netip.Addr{}
			}
			var mine []netip.Addr
			for _, a := range all {
				if familyOf(a) == family {
					mine = append(mine, a)
				}
			}
			if got := strings.Trim(fmt.Sprint(c.n.choose(family, mine, known)), "[]"); got != want {
				t.Errorf("%s, %s: %q, want %q", c.name, family, got, want)
			}
		}
	}
}

func TestClientKinds(t *testing.T) {
	local := map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true, netip.MustParseAddr("10.244.1.1"): true}
	node := &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24", "fd00:10:244:1::/64"}}}
	device := func(a netip.Addr) string {
		return map[string]string{"10.244.2.5": "cali12", "10.244.1.5": "cni0", "10.9.9.9": "eth0"}[a.String()]
	}
	for _, c := range []struct {
		mode LocalPods
		node *corev1.Node
		want map[string]clientKind
	}{
		{LocalPods{}, node, map[string]clientKind{"192.0.2.1": nodeClient, "127.0.0.1": nodeClient, "10.244.1.1": nodeClient,
			"10.244.1.5": podClient, "fd00:10:244:1::5": podClient, "10.244.2.5": externalClient, "10.9.9.9": externalClient}},
		{LocalPods{}, nil, map[string]clientKind{"192.0.2.1": nodeClient, "10.244.1.5": externalClient}},
		{LocalPods{Mode: "NodeCIDR"}, &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24"}}, map[string]clientKind{"10.244.1.5": podClient}},
		{LocalPods{Mode: "ClusterCIDR", ClusterCIDRs: prefixes("10.244.0.0/16")}, node, map[string]clientKind{
			"10.244.1.5": podClient, "10.244.9.5": podClient, "10.9.9.9": externalClient, "10.244.1.1": nodeClient}},
		{LocalPods{Mode: "BridgeInterface", Interface: "cni0"}, nil, map[string]clientKind{
			"10.244.1.5": podClient, "10.244.2.5": externalClient, "10.8.8.8": externalClient}},
		{LocalPods{Mode: "InterfaceNamePrefix", Interface: "cali"}, nil, map[string]clientKind{
			"10.244.2.5": podClient, "10.244.1.5": externalClient, "10.8.8.8": externalClient}},
	} {
		clients := newClients(c.mode, c.node, local, device)
		for addr, want := range c.want {
			if got := clients.kind(netip.MustParseAddr(addr)); got != want {
				t.Errorf("%s: %s is %s, want %s", c.mode.Mode, addr, got, want)
			}
		}
	}
}

// That replies to a pod come through this node must be certain: a pod anywhere in
// the cluster does not do.
func TestPodsHere(t *testing.T) {
	node := &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24"}}
	c := newClients(LocalPods{Mode: "ClusterCIDR", ClusterCIDRs: prefixes("10.244.0.0/16")}, node, nil, nil)
	for addr, want := range map[string]bool{"10.244.1.5": true, "10.244.2.5": false} {
		if got := c.isPodHere(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

// Who asks for the primary addresses does not want any other.
func TestPrimaryNodePortAddressIsNotGuessed(t *testing.T) {
	own := netip.MustParseAddr("192.0.2.1")
	addresses := nodeAddresses{map[string][]netip.Addr{"eth0": {own}, "cni0": {netip.MustParseAddr("10.244.1.1")}}}
	for _, c := range []struct {
		nodeIPs []netip.Addr
		want    string
	}{
		{[]netip.Addr{own}, "[192.0.2.1]"},
		{nil, "[]"},
		{[]netip.Addr{netip.MustParseAddr("192.0.2.99")}, "[]"}, // not on this node
	} {
		n := &nodeState{addresses: addresses, nodeIPs: c.nodeIPs, nodePorts: NodePortAddresses{Primary: true}}
		if got := fmt.Sprint(n.serving(IPv4)); got != c.want {
			t.Errorf("node IPs %v: served on %s, want %s", c.nodeIPs, got, c.want)
		}
		if got := fmt.Sprint(n.checkAddresses()); got != c.want {
			t.Errorf("node IPs %v: health checks on %s, want %s", c.nodeIPs, got, c.want)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", " 010.1.2.3/8 ": "10.0.0.0/8", "fd00::1/64": "fd00::/64",
		"::ffff:10.1.2.3/104": "10.0.0.0/8", "::/0": "::/0", "10.0.0.1": "", "10.0.0.0/33": "", "": "", "nonsense/8": "",
	} {
		got, ok := ParsePrefix(text)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q is %v, %v, want %q", text, got, ok, want)
		}
	}
}

// A network plugin that does not care for podCIDRs is noticed once.
func TestStrayPods(t *testing.T) {
	port := func(addr string) []*Port {
		return []*Port{{Local: Eligible{Endpoints: []balancer.Endpoint{{Addr: netip.MustParseAddrPort(addr)}}}}}
	}
	for _, c := range []struct {
		mode, cidr, endpoint string
		mark                 uint32
		want                 string
	}{
		{"", "10.244.1.0/24", "10.244.1.5:80", 1, ""},
		{"", "10.244.1.0/24", "10.9.9.9:80", 1, "10.9.9.9, are outside of its podCIDRs (10.244.1.0/24)"},
		{"", "10.244.1.0/24", "192.0.2.1:80", 1, ""}, // on the host network
		{"", "", "10.9.9.9:80", 1, "its Node object tells none"},
		{"", "10.244.1.0/24", "10.9.9.9:80", 0, ""}, // nobody asks for the client's address
		{"InterfaceNamePrefix", "10.244.1.0/24", "10.9.9.9:80", 1, ""},
	} {
		mode := LocalPods{Mode: c.mode, Interface: "cali"}
		p := &Proxier{cfg: Config{LocalPods: mode, ReturnMark: iptables.Mark{Value: c.mark, Mask: c.mark}}}
		n := &nodeState{clients: newClients(mode, &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: c.cidr}}, map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true}, nil)}
		got := fmt.Sprint(p.strayPods(port(c.endpoint), n))
		if (c.want == "") != (got == "[]") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
