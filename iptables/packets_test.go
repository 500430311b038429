package iptables

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"golang.org/x/sys/unix"
)

const (
	webPort    = 11000 // listener of the Service web
	dnsPort    = 11003 // listener of the Service dns, UDP
	nodePort   = 30080 // of web
	healthPort = 32000 // a health check server of our own
	elsePort   = 11001 // a daemon's own, between the two
)

// web and dns are two Services.
func (v variant) web() []Redirect {
	return []Redirect{
		{Name: "shop/web:http", Protocol: TCP, Addr: v.vip(20), Port: 80, To: webPort},
		{Name: "shop/web:http", Protocol: TCP, Port: nodePort, To: webPort},
		{Name: "kube-system/dns:dns", Protocol: UDP, Addr: v.vip(10), Port: 53, To: dnsPort},
	}
}

func TestPacketsReachTheListener(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		bridged := l.AddPod(netns.Bridged, "bridged")
		routed := l.AddPod(netns.Routed, "routed") // behind a link that no rule names
		l.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
		l.serveOriginal(l.NS, webPort)
		l.sync(l.rules(l.web()...))

		vip := netip.AddrPortFrom(l.vip(20), 80)
		l.expectAnswer("the node", l.NS, vip)
		l.expectAnswer("a bridged pod", bridged.NS, vip)
		l.expectAnswer("a routed pod", routed.NS, vip)
		l.expectAnswer("a machine outside", l.Client, vip)

		port := netip.AddrPortFrom(l.nodeAddr(), nodePort)
		l.expectAnswer("the node", l.NS, port)
		l.expectAnswer("the node", l.NS, netip.AddrPortFrom(l.loopback(), nodePort))
		l.expectAnswer("a bridged pod", bridged.NS, port)
		l.expectAnswer("a routed pod", routed.NS, port)
		l.expectAnswer("a machine outside", l.Client, port)
	})
}

// An address of a load balancer may be the node's own.
func TestVIPsComeBeforeNodePorts(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.serveOriginal(l.NS, webPort)
		l.sync(l.rules(
			Redirect{Name: "other", Protocol: TCP, Port: nodePort, To: elsePort}, // where nobody listens
			Redirect{Name: "web", Protocol: TCP, Addr: l.nodeAddr(), Port: nodePort, To: webPort},
		))
		l.expectAnswer("a machine outside", l.Client, netip.AddrPortFrom(l.nodeAddr(), nodePort))
	})
}

func TestDirectHitsAreRefused(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		routed := l.AddPod(netns.Routed, "routed")
		l.serveOriginal(l.NS, webPort)
		l.sync(l.rules(l.web()...))

		listener := netip.AddrPortFrom(l.nodeAddr(), webPort)
		l.expectRefused("the node", l.NS, listener)
		l.expectRefused("the node", l.NS, netip.AddrPortFrom(l.loopback(), webPort))
		l.expectRefused("a routed pod", routed.NS, listener)
		l.expectRefused("a machine outside", l.Client, listener)
	})
}

func TestDaemonsBetweenListenersLive(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.serveOriginal(l.NS, elsePort)
		beyond := Redirect{Name: "shop/cart", Protocol: TCP, Addr: l.vip(21), Port: 80, To: elsePort + 1}
		l.sync(l.rules(append(l.web(), beyond)...))
		l.expectAnswer("a machine outside", l.Client, netip.AddrPortFrom(l.nodeAddr(), elsePort))
	})
}

func TestDatagrams(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		pods := []*netns.Pod{l.AddPod(netns.Bridged, "bridged"), l.AddPod(netns.Routed, "routed")}
		l.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
		server := l.ListenUDP(l.wildcard(dnsPort))
		server.SetReadDeadline(time.Now().Add(20 * time.Second))
		l.sync(l.rules(l.web()...))

		vip := netip.AddrPortFrom(l.vip(10), 53)
		for _, from := range []*netns.NS{l.NS, l.Client, pods[0].NS, pods[1].NS} {
			// They take the same way, so the first would arrive first.
			l.send(from, netip.AddrPortFrom(l.nodeAddr(), dnsPort), "direct")
			l.send(from, vip, "by the VIP")
			buf := make([]byte, 100)
			n, _, err := server.ReadFromUDPAddrPort(buf)
			if got := string(buf[:n]); err != nil || got != "by the VIP" {
				t.Errorf("from %s: received %q, error %v", from.Name, got, err)
			}
		}
	})
}

// With an INPUT that drops, Services still work, and nothing else is opened.
func TestDefaultDropPolicy(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		routed := l.AddPod(netns.Routed, "routed")
		l.serveOriginal(l.NS, webPort)
		l.dropInput()
		l.sync(l.rules(l.web()...))

		vip := netip.AddrPortFrom(l.vip(20), 80)
		l.expectAnswer("the node", l.NS, vip)
		l.expectAnswer("a routed pod", routed.NS, vip)
		l.expectAnswer("a machine outside", l.Client, netip.AddrPortFrom(l.nodeAddr(), nodePort))
	})
}

// A server of our own that the outside must reach.
func TestOpenPorts(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		const closedPort = elsePort
		l.serveName("health", l.NS, healthPort)
		l.serveName("closed", l.NS, closedPort)
		l.dropInput()
		r := l.rules(l.web()...)
		l.sync(r)
		health, closed := netip.AddrPortFrom(l.nodeAddr(), healthPort), netip.AddrPortFrom(l.nodeAddr(), closedPort)
		l.expectSilence("before, a machine outside", l.Client, &net.Dialer{}, health)
		r.Open = []uint16{healthPort}
		l.sync(r)
		l.expectListener("a machine outside", l.Client, health, "health")
		l.expectSilence("a machine outside", l.Client, &net.Dialer{}, closed)
	})
}

func TestAnOpenListenerPortStaysGuarded(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.serveOriginal(l.NS, webPort)
		r := l.rules(l.web()...)
		r.Open = []uint16{webPort}
		l.sync(r)
		l.expectRefused("a machine outside", l.Client, netip.AddrPortFrom(l.nodeAddr(), webPort))
	})
}

// dropInput makes INPUT drop what is not known to be wanted.
func (l *lab) dropInput() {
	l.t.Helper()
	if l.family == IPv6 {
		l.iptables("-A", "INPUT", "-p", "icmpv6", "-j", "ACCEPT") // neighbour discovery
	}
	l.iptables("-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
	l.iptables("-P", "INPUT", "DROP")
}

// Outside, a machine has the VIP as its address and refuses: that is where a
// socket with our mark gets, and no other.
func TestMarkedConnectionsPass(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		vip := netip.AddrPortFrom(l.vip(20), 80)
		l.own(l.Client, vip.Addr())
		l.serveOriginal(l.NS, webPort)
		l.sync(l.rules(l.web()...))

		l.expectAnswer("an unmarked socket", l.NS, vip)
		if got, err := l.askMarked(l.NS, vip); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a marked socket: answer %q, error %v, want the refusal from outside", got, err)
		}
	})
}

// When the node address goes, nothing of the DNAT chains stays behind.
func TestNodeAddressGoes(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		bridged := l.AddPod(netns.Bridged, "bridged")
		l.serveOriginal(l.NS, webPort)
		l.sync(l.rules(l.web()...))
		rules := l.rules(l.web()...)
		rules.NodeAddr, rules.Numbered = netip.Addr{}, nil
		l.sync(rules)
		l.expectAnswer("a bridged pod", bridged.NS, netip.AddrPortFrom(l.vip(20), 80))
		if got := l.iptables("-t", "nat", "-S", "USHER-SERVICES-DNAT"); got != "-N USHER-SERVICES-DNAT\n" {
			t.Errorf("still there:\n%s", got)
		}
	})
}
