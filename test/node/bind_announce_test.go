package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// balanced is a Service at the n-th address with a load balancer's addresses that are in
// the subnets of eth0.
func balanced(n, nodePort int, pods ...*netns.Pod) string {
	text := strings.Replace(dual("web", n, nodePort, pods...), "type: NodePort", "type: LoadBalancer", 1)
	return strings.Replace(text, "---", "status: {loadBalancer: {ingress: [{ip: 192.0.2.77}, {ip: '2001:db8::77'}]}}\n---", 1)
}

// knows tells whether a neighbour has found out the link address of an address.
func knows(neighbour *netns.NS, addr netip.Addr) bool {
	neighbour.Dial("tcp", netip.AddrPortFrom(addr, 80).String())
	line := neighbour.Run("ip", "neigh", "show", addr.String())
	return strings.Contains(line, "lladdr")
}

// given Service addresses in a neighbour's own subnet, when it asks for them by ARP and
// neighbour discovery, then only those of load balancers are answered, and only if asked
// for; no daemon of the node answers at them.
func TestBindAnnouncesOnlyOnDemand(t *testing.T) {
	lb4, lb6, cluster := netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::77"), netip.MustParseAddr("10.96.0.10")
	for _, announce := range []bool{false, true} {
		t.Run(fmt.Sprintf("announce-vips=%t", announce), func(t *testing.T) {
			s := newRoutedScene(t)
			s.ServeHTTP("daemon", netip.MustParseAddrPort("0.0.0.0:22"))
			s.Client.Run("ip", "route", "replace", "10.96.0.10", "dev", "eth0") // asks for it
			s.Run("ip", "address", "show")
			s.write("web.yaml", balanced(10, 30080, s.pods[0]))
			u := usher.Start(t, s.NS, "--manifests="+s.folder, "--capture=bind", fmt.Sprintf("--announce-vips=%t", announce))
			served(t, s.NS, "http://192.0.2.77")
			served(t, s.client.NS, "http://[2001:db8::77]")
			if knows(s.Client, cluster) {
				t.Error("a cluster IP is answered for")
			}
			if !announce {
				if knows(s.Client, lb4) || knows(s.Client, lb6) {
					t.Error("a load balancer's address is answered for")
				}
				return
			}
			served(t, s.Client, "http://192.0.2.77")
			served(t, s.Client, "http://[2001:db8::77]")
			s.refusedAt(s.Client, "192.0.2.77:22")
			s.write("web.yaml", dual("web", 10, 30080, s.pods[0]))
			netns.Eventually(t, "it is announced no more", func() error {
				for _, family := range []string{"-4", "-6"} {
					if left := s.Run("ip", family, "neigh", "show", "proxy"); left != "" {
						return errors.New(left)
					}
				}
				return nil
			})
			u.Stop()
		})
	}
}
