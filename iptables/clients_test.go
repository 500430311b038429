package iptables

import (
	"net/netip"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

const (
	herePort   = 11010 // listener with all endpoints
	therePort  = 11011 // listener with the endpoints of this node
	silentPort = 11012 // listener for clients that may not come; here it tells its name
)

// serveClients starts the three listeners.
func (l *lab) serveClients() {
	l.t.Helper()
	l.serveName("here", l.NS, herePort)
	l.serveName("there", l.NS, therePort)
	l.serveName("silent", l.NS, silentPort)
}

// bridged are the addresses of the lab's pods on its bridge.
func (v variant) bridged() netip.Prefix {
	if v.family == IPv6 {
		return netip.MustParsePrefix("fd00:10:244:1::/64")
	}
	return netip.MustParsePrefix("10.244.1.0/24")
}

// bridge is the node's own address there.
func (v variant) bridge() netip.Addr { return v.bridged().Addr().Next() }

func (v variant) podAddr(p *netns.Pod) netip.Addr { return v.addr(p.IPv4, p.IPv6) }

// pair are the redirects of a frontend with externalTrafficPolicy Local. The
// names sort against the order in which they must be asked.
func pair(addr netip.Addr, port uint16, sources ...netip.Prefix) []Redirect {
	return []Redirect{
		{Name: "a", Protocol: TCP, Addr: addr, Port: port, To: therePort, Sources: sources},
		{Name: "b", Protocol: TCP, Addr: addr, Port: port, To: herePort, Sources: sources, Here: true},
	}
}

func TestClientsOnTheNodeHaveTheirOwnListener(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		bridged := l.AddPod(netns.Bridged, "bridged")
		routed := l.AddPod(netns.Routed, "routed")
		l.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
		l.serveClients()
		frontends := []netip.AddrPort{
			netip.AddrPortFrom(l.vip(20), 80),
			netip.AddrPortFrom(l.nodeAddr(), nodePort),
		}
		redirects := append(pair(l.vip(20), 80), pair(netip.Addr{}, nodePort)...)
		for name, c := range map[string]struct {
			pods            Pods
			bridged, routed string
		}{
			"nobody tells pods": {Pods{}, "there", "there"},
			"by prefix":         {Pods{Prefixes: []netip.Prefix{l.bridged()}}, "here", "there"},
			"by bridge":         {Pods{Interfaces: []string{"cni0"}}, "here", "there"},
			"by names":          {Pods{Interfaces: []string{"cali+"}}, "there", "here"},
			"both":              {Pods{[]netip.Prefix{l.bridged()}, []string{"cali+"}}, "here", "here"},
			"another's":         {Pods{[]netip.Prefix{only(l.vip(1))}, []string{"cal"}}, "there", "there"},
		} {
			t.Run(name, func(t *testing.T) {
				l := &lab{l.Node, l.variant, t, l.table}
				r := l.rules(redirects...)
				r.Pods = c.pods
				l.sync(r)
				for _, f := range frontends {
					l.expectListener("the node", l.NS, f, "here")
					l.expectListener("a bridged pod", bridged.NS, f, c.bridged)
					l.expectListener("a routed pod", routed.NS, f, c.routed)
					l.expectListener("a machine outside", l.Client, f, "there")
				}
				l.expectListener("the node", l.NS, netip.AddrPortFrom(l.loopback(), nodePort), "here")
			})
		}
	})
}

func TestSources(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		bridged := l.AddPod(netns.Bridged, "bridged")
		routed := l.AddPod(netns.Routed, "routed")
		l.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
		l.serveClients()

		vip := netip.AddrPortFrom(l.vip(20), 80)
		everybody := Redirect{Name: "1", Protocol: TCP, Addr: vip.Addr(), Port: 80, To: silentPort}
		with := func(sources ...netip.Prefix) Rules {
			r := l.rules(append(pair(vip.Addr(), 80, sources...), everybody)...)
			r.Pods = Pods{[]netip.Prefix{l.bridged()}, []string{"cali+"}}
			return r
		}

		l.sync(with(only(l.clientAddr()), only(l.podAddr(bridged))))
		l.expectListener("a machine outside", l.Client, vip, "there")
		l.expectListener("a bridged pod", bridged.NS, vip, "here")
		l.expectListener("a routed pod, not in the ranges", routed.NS, vip, "silent")
		l.expectListener("the node, not in the ranges", l.NS, vip, "silent")

		l.sync(with(only(l.nodeAddr()), only(l.podAddr(routed))))
		l.expectListener("a machine outside, not in the ranges", l.Client, vip, "silent")
		l.expectListener("a bridged pod, not in the ranges", bridged.NS, vip, "silent")
		l.expectListener("a routed pod", routed.NS, vip, "here")
		l.expectListener("the node", l.NS, vip, "here")
	})
}

// reachable says on which of the node's addresses a NodePort answers its own
// processes. Nobody listens on the port itself, so elsewhere it is refused.
func (l *lab) reachable(yes ...netip.Addr) {
	l.t.Helper()
	asked := map[netip.Addr]bool{l.nodeAddr(): false, l.bridge(): false, l.loopback(): false}
	for _, a := range yes {
		asked[a] = true
	}
	for a, want := range asked {
		if to := netip.AddrPortFrom(a, nodePort); want {
			l.expectAnswer("the node", l.NS, to)
		} else {
			l.expectRefused("the node", l.NS, to)
		}
	}
}

func TestNodePortsOnSomeAddresses(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		bridged := l.AddPod(netns.Bridged, "bridged")
		routed := l.AddPod(netns.Routed, "routed")
		l.serveOriginal(l.NS, webPort)
		r := l.rules(l.web()...)
		node, bridge := netip.AddrPortFrom(l.nodeAddr(), nodePort), netip.AddrPortFrom(l.bridge(), nodePort)

		l.sync(r)
		l.reachable(l.nodeAddr(), l.bridge(), l.loopback())

		r.NodePortsOn = []netip.Prefix{only(l.nodeAddr())}
		l.sync(r)
		l.reachable(l.nodeAddr())
		l.expectAnswer("a machine outside", l.Client, node)
		l.expectAnswer("a routed pod", routed.NS, node)
		l.expectRefused("a bridged pod", bridged.NS, bridge)
		l.expectRefused("a routed pod", routed.NS, bridge)

		r.NodePortsOn = []netip.Prefix{only(l.nodeAddr()), l.bridged()}
		l.sync(r)
		l.reachable(l.nodeAddr(), l.bridge())
		l.expectAnswer("a bridged pod", bridged.NS, bridge)
		l.expectAnswer("a routed pod", routed.NS, bridge)

		r.NodePortsOn = []netip.Prefix{l.family.loopback()}
		l.sync(r)
		l.reachable(l.loopback())

		r.NotOnLoopback = true
		l.sync(r)
		l.reachable()

		r.NodePortsOn = nil
		l.sync(r)
		l.reachable(l.nodeAddr(), l.bridge())
		l.expectAnswer("a machine outside", l.Client, node)
	})
}

// An address in a prefix is one of the node's, or it is not a NodePort: the
// port of a pod is the pod's own.
func TestNodePortsAreOnTheNode(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		bridged := l.AddPod(netns.Bridged, "bridged")
		l.serveName("usher", l.NS, webPort)
		l.serveName("pod", bridged.NS, nodePort)
		r := l.rules(l.web()...)
		r.NodePortsOn = []netip.Prefix{l.bridged()}
		l.sync(r)
		l.expectListener("the node", l.NS, netip.AddrPortFrom(l.podAddr(bridged), nodePort), "pod")
		l.expectListener("the node", l.NS, netip.AddrPortFrom(l.bridge(), nodePort), "usher")
	})
}
