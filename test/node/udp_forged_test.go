package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

// forge sends datagrams to an address that seem to come from another one.
func forge(t *testing.T, ns *netns.NS, from, to string, n int) {
	t.Helper()
	domain, level, option := unix.AF_INET, unix.SOL_IP, unix.IP_TRANSPARENT
	source, target := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	if source.Addr().Is6() {
		domain, level, option = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	var fd int
	var err error
	ns.Do(func() { fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, step := range []func() error{
		func() error { return unix.SetsockoptInt(fd, level, option, 1) },
		func() error { return unix.Bind(fd, sockaddr(source)) },
	} {
		if err := step(); err != nil {
			t.Fatalf("forge %s: %v", source, err)
		}
	}
	for i := range n {
		if err := unix.Sendto(fd, fmt.Appendf(nil, "forged %d", i), 0, sockaddr(target)); err != nil {
			t.Fatalf("forge %s: send to %s: %v", source, target, err)
		}
	}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// udpManifest6 is udpManifest for IPv6.
func udpManifest6(name string, n, nodePort int, endpoints ...netip.Addr) string {
	return strings.NewReplacer(
		"clusterIP: 10.96.0.", "ipFamilies: [IPv6]\n  clusterIP: fd00:10:96::",
		"addressType: IPv4", "addressType: IPv6",
		"{addresses: [", `{addresses: ["`, "]}", `"]}`,
	).Replace(udpManifest(name, n, nodePort, endpoints...))
}

// A datagram whose source is an address that usher itself serves would be answered
// to usher, and that again, for ever.
func TestForgedSourcesOfOurOwnAreDropped(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
	// The kernel itself drops what seems to come from its own addresses, or from
	// elsewhere than it does, unless told otherwise.
	for _, device := range []string{"all", "cni0", s.routed.HostLink, "eth0"} {
		s.Sysctl("net/ipv4/conf/"+device+"/accept_local", "1")
		s.Sysctl("net/ipv4/conf/"+device+"/rp_filter", "0")
	}
	one := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	two := answer(t, s.pods[1].NS, "pod-2", s.pods[1].AddrPort4(8080))
	six := answer(t, s.pods[1].NS, "pod-2-six", s.pods[1].AddrPort6(8080))
	s.write("one.yaml", udpManifest("one", 10, 30080, s.pods[0].IPv4))
	s.write("two.yaml", udpManifest("two", 11, 30081, s.pods[1].IPv4))
	s.write("six.yaml", udpManifest6("six", 10, 30082, s.pods[1].IPv6)+"---"+udpManifest6("seven", 11, 30083, s.pods[1].IPv6))
	s.start()
	ask(t, s.client.NS, udpVIP(10)).awaits("pod-1")
	ask(t, s.client.NS, udpVIP(11)).awaits("pod-2")
	ask(t, s.client.NS, "[fd00:10:96::11]:80").awaits("pod-2-six")
	port := s.udpPort(11)

	const n = 5
	for _, c := range []struct {
		name, from, to, service string
	}{
		{"another Service", udpVIP(11), udpVIP(10), "one"},
		{"the Service itself", udpVIP(10), udpVIP(10), "one"},
		{"another Service's NodePort", "192.0.2.1:30081", udpVIP(10), "one"},
		{"a NodePort on the bridge's address", "10.244.1.1:30081", udpVIP(10), "one"},
		{"a listener port", fmt.Sprintf("192.0.2.1:%d", port), udpVIP(10), "one"},
		{"another Service, to a NodePort", udpVIP(10), "192.0.2.1:30081", "two"},
		{"another IPv6 Service", "[fd00:10:96::10]:80", "[fd00:10:96::11]:80", "seven"},
		{"an IPv6 NodePort", "[2001:db8::1]:30082", "[fd00:10:96::11]:80", "seven"},
	} {
		for _, ns := range []*netns.NS{s.client.NS, s.routed.NS, s.Client} {
			t.Run(c.name+" from "+ns.Name, func(t *testing.T) {
				service := fmt.Sprintf("service=%q", c.service)
				drops := func() float64 { return s.metric("usher_udp_drops_total", service, `cause="loop"`) }
				datagrams := func() float64 { return s.metric("usher_udp_datagrams_total") }
				asked := func() int { return one.count() + two.count() + six.count() }
				dropped, moved, were := drops(), datagrams(), asked()
				forge(t, ns, c.from, c.to, n)
				netns.EventuallyWithin(t, 5*time.Second, "they are dropped", func() error {
					if got := drops() - dropped; got != n {
						return fmt.Errorf("%v of %d are counted as a loop", got, n)
					}
					return nil
				})
				if got := datagrams() - moved; got != 0 {
					t.Errorf("%v datagrams were passed on", got)
				}
				if got := asked() - were; got != 0 {
					t.Errorf("%d reached an endpoint", got)
				}
			})
		}
	}
	quiet := s.metric("usher_udp_datagrams_total") + s.metric("usher_udp_drops_total")
	time.Sleep(silence)
	if now := s.metric("usher_udp_datagrams_total") + s.metric("usher_udp_drops_total"); now != quiet {
		t.Errorf("%v datagrams have come since nobody sends any", now-quiet)
	}
	ask(t, s.client.NS, udpVIP(10)).gets("pod-1")
}

// Only redirected datagrams are welcome on a listener port.
func TestListenerPortIsSilentToDirectDatagrams(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4)
	server := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4))
	s.start()
	clients := s.everywhere()
	for _, c := range clients {
		c.awaits("pod-1")
	}
	before := server.count()
	for what, port := range s.udpPorts() {
		for _, to := range []struct {
			from *netns.NS
			addr string
		}{
			{s.client.NS, "192.0.2.1"}, {s.client.NS, "10.244.1.1"}, {s.routed.NS, "192.0.2.1"},
			{s.Client, "192.0.2.1"}, {s.NS, "192.0.2.1"}, {s.NS, "127.0.0.1"},
		} {
			c := ask(t, to.from, fmt.Sprintf("%s:%d", to.addr, port))
			for range 3 {
				if who, err := c.once(50 * time.Millisecond); err == nil {
					t.Errorf("%s (%s), which is answered by %s", c, what, who)
				}
			}
		}
	}
	if n := server.count() - before; n != 0 {
		t.Errorf("%d datagrams reached the endpoint", n)
	}
	for _, c := range clients {
		c.gets("pod-1")
	}
}
