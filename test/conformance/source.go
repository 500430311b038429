package conformance

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// source is about the client's address that the backend sees.
var source = []Case{
	{Number: 35, Name: "eTP Local keeps the address of a client off the node", Netfilter: "the client's address is kept by marks", run: sourceOfOutside},
	{Number: 36, Name: "a ClusterIP keeps the address of a client pod", Netfilter: "the client's address is kept by marks", run: sourceToClusterIP},
	{Number: 37, Name: "eTP Local keeps the address of a pod that calls the load balancer", Netfilter: "the client's address is kept by marks", run: sourceToLoadBalancer},
}

func sourceOfOutside(w *World) {
	for _, by := range transports {
		s := w.externallyLocal("source-outside-" + by.name)
		by.serves(s)
		port := s.Spec.Ports[0].NodePort
		w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0], w.RoutedServer, w.Remotes[0]))...)
		outside := by.over([]from{w.outside()})
		w.answers(outside, policyAddrs(s, w.Node), "pod-1", "routed-server")
		w.seenAs(outside[0], policyAddrs(s, w.Node)...)
		w.seenAs(outside[0], nodeIPs(w.Node2, port)...)
		for _, f := range by.over(w.viaNode2()) {
			w.seenAs(f, nodeIPs(w.Node, port)...)
		}
	}
}

func sourceToClusterIP(w *World) {
	for _, by := range transports {
		s := w.service("source-clusterip-"+by.name, tcp("", 80))
		w.seePods(by, s, vips(s, 80))
	}
}

// The policy is not for pods of the node, so the endpoint may be anywhere.
func sourceToLoadBalancer(w *World) {
	for _, by := range transports {
		s := w.externallyLocal("source-loadbalancer-" + by.name)
		w.seePods(by, s, append(loadBalancerIPs(s, 80), externalIPs(s, 80)...))
	}
}

// seePods applies a Service and checks that whichever endpoint serves it at
// addrs sees the own address of a pod that connects.
//
// The exception is usher's: what a pod answers to another one behind the same
// bridge is switched past the node's IP stack, so such a server is shown the
// node. No server is behind the bridge in the World that kube-proxy gets.
func (w *World) seePods(by transport, s *corev1.Service, addrs []netip.AddrPort) {
	w.t.Helper()
	by.serves(s)
	clients := []*netns.Pod{w.Client, w.Routed, w.RemoteClient}
	servers := []*netns.Pod{w.Pods[0], w.RoutedServer, w.Remotes[0]}
	w.apply(objects(s, slicesOf(s, "a", "", 8080, servers...))...)
	for _, server := range servers {
		w.Apply(slicesOf(s, "a", "", 8080, server)...)
		for _, client := range clients {
			f := by.over([]from{w.pod(client)})[0]
			w.answers([]from{f}, addrs, server.Name)
			if isBridged(client) && isBridged(server) && client.Node == server.Node {
				f.v4, f.v6 = client.Node.Bridge4, client.Node.Bridge6
			}
			w.seenAs(f, addrs...)
		}
	}
}

// isBridged tells whether a pod is in the subnet of its node's bridge.
func isBridged(p *netns.Pod) bool { return netip.PrefixFrom(p.Node.Bridge6, 64).Contains(p.IPv6) }
