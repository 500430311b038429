package conformance

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// policies are about internalTrafficPolicy and externalTrafficPolicy.
var policies = []Case{
	{Number: 24, Name: "iTP Local with only a terminating local pod", run: internalLocalTerminating},
	{Number: 25, Name: "eTP Local: a terminating local pod before a ready remote one", run: externalLocalTerminating},
	{Number: 29, Name: "iTP Local: only the local pod answers", run: internalLocalHere},
	{Number: 30, Name: "iTP Local with pods only elsewhere: silence", run: internalLocalElsewhere},
	{Number: 31, Name: "iTP Local does not concern NodePorts", run: internalLocalNodePort},
	{Number: 32, Name: "eTP Local without a local pod: silence for clients off the node", run: externalLocalElsewhere},
	{Number: 33, Name: "the same for a process of that node: served", run: externalLocalFromHere},
	{Number: 34, Name: "the same for a pod of another node: fails", run: externalLocalOtherNode},
}

// viaNode1 are those whose packets to a Service address reach node-1 first.
func (w *World) viaNode1() []from { return append(w.inside(), w.outside()) }

// viaNode2 is the same for node-2.
func (w *World) viaNode2() []from { return []from{w.remote(), w.node2()} }

// externallyLocal is a Service with eTP Local and external addresses of all kinds.
func (w *World) externallyLocal(name string) *corev1.Service {
	s := w.loadBalancer(name, nodePort("", 80, w.newNodePort()))
	w.addExternalIPs(s)
	externalLocal(s)
	return s
}

// policyAddrs are the addresses of such a Service that its external policy is
// about, with the NodePort of one node.
func policyAddrs(s *corev1.Service, n *netns.Node) []netip.AddrPort {
	return slices.Concat(loadBalancerIPs(s, 80), externalIPs(s, 80), nodeIPs(n, s.Spec.Ports[0].NodePort))
}

func internalLocalTerminating(w *World) {
	s := w.service("itp-terminating", tcp("", 80))
	internalLocal(s)
	w.apply(objects(s, slicesWith(s, "a", "", 8080, terminating(w.Pods[0])))...)
	w.answers(w.viaNode1(), vips(s, 80), "pod-1")
	w.silent(w.viaNode2(), vips(s, 80)...)

	// A ready pod elsewhere is no reason to leave the local one.
	w.Apply(slicesWith(s, "a", "", 8080, terminating(w.Pods[0]), ready(w.Remotes[0]))...)
	w.settle()
	w.answers(w.viaNode1(), vips(s, 80), "pod-1")
	w.answers(w.viaNode2(), vips(s, 80), "remote-1")
}

func externalLocalTerminating(w *World) {
	s := w.externallyLocal("etp-terminating")
	w.apply(objects(s, slicesWith(s, "a", "", 8080, terminating(w.Pods[0]), ready(w.Remotes[0])))...)
	w.answers([]from{w.outside()}, policyAddrs(s, w.Node), "pod-1")
	w.answers(w.viaNode2(), nodeIPs(w.Node, s.Spec.Ports[0].NodePort), "pod-1")
	w.answers([]from{w.outside()}, nodeIPs(w.Node2, s.Spec.Ports[0].NodePort), "remote-1")
	// Who is on the node gets what is ready in the cluster.
	w.answers(w.inside(), policyAddrs(s, w.Node), "remote-1")
}

func internalLocalHere(w *World) {
	s := w.service("itp-here", tcp("", 80))
	internalLocal(s)
	// What is not known to be on the node is not.
	w.apply(objects(s, slicesWith(s, "a", "", 8080, ready(w.Pods[0]), ready(w.Pods[1]).onNoNode(), ready(w.Remotes[0])))...)
	w.answers(w.viaNode1(), vips(s, 80), "pod-1")
	w.answers(w.viaNode2(), vips(s, 80), "remote-1")

	host := w.service("itp-host", tcp("", 80))
	internalLocal(host)
	w.apply(objects(host, slicesOf(host, "a", "", 9029, w.hostPod(w.Node, 9029), w.hostPod(w.Node2, 9029)))...)
	w.answers(w.viaNode1(), vips(host, 80), "node-1")
	w.answers(w.viaNode2(), vips(host, 80), "node-2")
}

// hostPod is a pod on the network of a node, which serves the node's name, also
// over UDP.
func (w *World) hostPod(n *netns.Node, port uint16) *netns.Pod {
	pod := &netns.Pod{NS: n.NS, Node: n, IPv4: n.IPv4, IPv6: n.IPv6}
	for _, addr := range []netip.AddrPort{pod.AddrPort4(port), pod.AddrPort6(port)} {
		w.t.Cleanup(n.ServeHTTP(n.Name, addr).Close)
		w.t.Cleanup(serveDatagrams(n.NS, n.Name, addr).Close)
	}
	return pod
}

func internalLocalElsewhere(w *World) {
	s := w.service("itp-elsewhere", tcp("", 80))
	internalLocal(s)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Remotes...))...)
	w.answers(w.viaNode2(), vips(s, 80), "remote-1", "remote-2")
	w.silent(w.viaNode1(), vips(s, 80)...)

	// With pods nowhere it is as without the policy.
	w.Apply(slicesWith(s, "a", "", 8080, unready(w.Remotes[0]), terminated(w.Remotes[1]))...)
	w.refuses(w.everywhere(), vips(s, 80)...)
}

func internalLocalNodePort(w *World) {
	s := w.loadBalancer("itp-nodeport", nodePort("", 80, w.newNodePort()))
	w.addExternalIPs(s)
	internalLocal(s)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0], w.Remotes[0]))...)
	for _, n := range w.nodes() {
		w.answers(w.everywhere(), policyAddrs(s, n), "pod-1", "remote-1")
	}
	w.answers(w.viaNode1(), vips(s, 80), "pod-1")
	w.answers(w.viaNode2(), vips(s, 80), "remote-1")
}

func externalLocalElsewhere(w *World) {
	s := w.externallyLocal("etp-elsewhere")
	outside, port := []from{w.outside()}, s.Spec.Ports[0].NodePort
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Remotes...))...)
	w.answers(outside, nodeIPs(w.Node2, port), "remote-1", "remote-2")
	w.answers(w.everywhere(), vips(s, 80), "remote-1", "remote-2")
	w.silent(outside, policyAddrs(s, w.Node)...)

	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	w.Apply(s)
	w.answers(outside, policyAddrs(s, w.Node), "remote-1", "remote-2")

	// A pod that is about to end is somewhere too.
	externalLocal(s)
	w.Apply(objects(s, slicesWith(s, "a", "", 8080, terminating(w.Remotes[0])))...)
	w.silent(outside, policyAddrs(s, w.Node)...)

	// With pods nowhere it is as without the policy.
	w.Apply(slicesWith(s, "a", "", 8080, unready(w.Remotes[0]), terminated(w.Remotes[1]))...)
	w.refuses(append(outside, w.bridged(), w.routed(), w.remote()), policyAddrs(s, w.Node)...)
	fromNodes := policyAddrs(s, w.Node)
	if w.proxy.Reference() {
		// Its iptables mode does not reject what a node itself sends to the others.
		fromNodes = nodeIPs(w.Node, port)
	}
	w.refuses([]from{w.node1(), w.node2()}, fromNodes...)
}

// Pods of the node are as good as its processes.
func externalLocalFromHere(w *World) {
	s := w.externallyLocal("etp-from-here")
	port := s.Spec.Ports[0].NodePort
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Remotes...))...)
	w.answers(w.inside(), policyAddrs(s, w.Node), "remote-1", "remote-2")
	w.answers(w.inside(), bridgeIPs(w.Node, port), "remote-1", "remote-2")

	// The policy is not for them, so a local pod changes nothing.
	w.Apply(slicesOf(s, "a", "", 8080, w.Pods[0], w.Remotes[0])...)
	w.answers(w.inside(), policyAddrs(s, w.Node), "pod-1", "remote-1")
	w.answers(w.viaNode2(), policyAddrs(s, w.Node2), "pod-1", "remote-1")
	w.answers([]from{w.outside()}, policyAddrs(s, w.Node), "pod-1")

	// Without a ready one anywhere they get what is terminating elsewhere.
	w.Apply(slicesWith(s, "a", "", 8080, terminating(w.Remotes[1]))...)
	w.answers(w.inside(), policyAddrs(s, w.Node), "remote-2")
}

// To the other node its processes are no nearer than its pods.
func externalLocalOtherNode(w *World) {
	there, here := w.externallyLocal("etp-there"), w.externallyLocal("etp-here")
	therePort, herePort := there.Spec.Ports[0].NodePort, here.Spec.Ports[0].NodePort
	w.apply(objects(there, slicesOf(there, "a", "", 8080, w.Remotes...))...)
	w.apply(objects(here, slicesOf(here, "a", "", 8080, w.Pods...))...)
	w.answers([]from{w.remote()}, nodeIPs(w.Node2, therePort), "remote-1", "remote-2")
	w.answers([]from{w.remote()}, nodeIPs(w.Node, herePort), "pod-1", "pod-2", "pod-3")
	w.silent(w.viaNode2(), nodeIPs(w.Node, therePort)...)
	w.silent(w.inside(), nodeIPs(w.Node2, herePort)...)
}
