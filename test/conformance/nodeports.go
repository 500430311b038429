package conformance

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// nodePortCases are about NodePorts.
var nodePortCases = []Case{
	{Number: 40, Name: "a NodePort answers on every address of every node", run: nodePorts},
	{Number: 41, Name: "the NodePort of a deleted Service is not answered", run: nodePortDeleted},
	{Number: 42, Name: "NodePorts on some addresses only", run: nodePortAddresses},
	{Number: 43, Name: "NodePorts on loopback", run: nodePortLoopback},
	{Number: 44, Name: "two Services swap their NodePorts", run: nodePortSwap},
}

// nodePortService is a Service of that type with one port.
func (w *World) nodePortService(name string, number int32) *corev1.Service {
	s := w.service(name, nodePort("", 80, number))
	s.Spec.Type = corev1.ServiceTypeNodePort
	return s
}

func nodePorts(w *World) {
	port := w.newNodePort()
	s := w.nodePortService("nodeport", port)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
	all := []string{"pod-1", "pod-2", "pod-3"}
	w.answers(w.everywhere(), nodeIPs(w.Node, port), all...)
	w.answers(w.everywhere(), nodeIPs(w.Node2, port), all...)
	w.answers(w.inside(), bridgeIPs(w.Node, port), all...)
	w.answers(w.inside(), vips(s, 80), all...)
}

func nodePortDeleted(w *World) {
	port := w.newNodePort()
	s := w.nodePortService("nodeport-gone", port)
	addrs := append(nodeIPs(w.Node, port), nodeIPs(w.Node2, port)...)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	w.answers(w.everywhere(), addrs, "pod-1")
	w.Delete(s)
	w.unanswered(w.everywhere(), addrs...)
	w.Apply(w.service("nodeport-gone", tcp("", 80))) // for the cleanup to delete

	// The number is free for UDP. Who keeps his own port is a client of before.
	s = w.nodePortService("nodeport-gone-udp", port)
	servesUDP(s)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	w.answers(overUDP(w.everywhere()), addrs, "pod-1")
	before := w.flows(w.everywhere(), addrs)
	before.move(w, "pod-1")
	w.Delete(s)
	w.unanswered(overUDP(w.everywhere()), addrs...)
	if !w.proxy.Reference() { // it leaves their conntrack entries (k/k#141275, k/k#141371)
		before.stop(w)
	}
	w.Apply(w.service("nodeport-gone-udp", udp("", 80)))
}

// nodePortAddresses has nodes with two addresses in each family: on eth0 and on
// the bridge.
func nodePortAddresses(w *World) {
	port := w.newNodePort()
	s := w.nodePortService("nodeport-addresses", port)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	eth0, bridge := nodeIPs(w.Node, port), bridgeIPs(w.Node, port)

	// A family of which there is no CIDR is served on all its addresses.
	w.restartWith(func(o *Options) { o.NodePortAddresses = []string{"192.0.2.0/24"} })
	w.servedOn(append(eth0, bridge[1]), bridge[:1])
	w.rerunWith(func(o *Options) { o.NodePortAddresses = []string{"192.0.2.0/24", w.Node.Bridge6.String() + "/128"} })
	w.servedOn([]netip.AddrPort{eth0[0], bridge[1]}, []netip.AddrPort{bridge[0], eth0[1]})
	w.rerunWith(func(o *Options) { o.NodePortAddresses = []string{"primary"} })
	w.servedOn(eth0, bridge)
}

// servedOn checks which addresses of node-1, with a NodePort, are answered by
// pod-1, from everywhere.
func (w *World) servedOn(served, unserved []netip.AddrPort) {
	w.t.Helper()
	w.answers(w.everywhere(), served, "pod-1")
	w.unanswered(w.everywhere(), unserved...)
}

// rerunWith is restartWith in a case that has called it before.
func (w *World) rerunWith(change func(*Options)) {
	w.t.Helper()
	o := standard()
	change(&o)
	w.stop()
	w.start(w.t, o)
}

func nodePortLoopback(w *World) {
	port := w.newNodePort()
	s := w.nodePortService("nodeport-loopback", port)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	w.answers([]from{w.node1()}, nodeIPs(w.Node, port), "pod-1")
	w.refuses([]from{w.node1(), w.node2()}, loopbackIPs(port)...)

	w.restartWith(func(o *Options) { o.LoopbackNodePorts = true })
	w.answers(w.everywhere(), nodeIPs(w.Node, port), "pod-1")
	served := loopbackIPs(port)
	if w.proxy.Reference() {
		served = served[:1] // it has no way to serve [::1]
	}
	w.answers([]from{w.node1(), w.node2()}, served, "pod-1")
	if w.proxy.Reference() {
		return // in its list of addresses there is no word for loopback yet
	}
	w.rerunWith(func(o *Options) {
		o.LoopbackNodePorts, o.NodePortAddresses = true, []string{"192.0.2.0/24", "2001:db8::/64"}
	})
	w.answers([]from{w.node1(), w.node2()}, served, "pod-1")
	w.servedOn(nodeIPs(w.Node, port), bridgeIPs(w.Node, port))
}

// nodePortSwap swaps in the order that an API server allows, which has no port
// belong to two Services, and so fast that the proxy may see it as one change.
func nodePortSwap(w *World) {
	one, two := w.newNodePort(), w.newNodePort()
	a, b := w.nodePortService("swap-a", one), w.nodePortService("swap-b", two)
	without := a.DeepCopy()
	without.Spec.Type, without.Spec.Ports[0].NodePort = corev1.ServiceTypeClusterIP, 0
	w.apply(objects(a, slicesOf(a, "a", "", 8080, w.Pods[0]))...)
	w.apply(objects(b, slicesOf(b, "a", "", 8080, w.Pods[1]))...)
	w.answers(w.everywhere(), nodeIPs(w.Node, one), "pod-1")
	w.answers(w.everywhere(), nodeIPs(w.Node, two), "pod-2")
	for range 3 {
		a.Spec.Ports[0].NodePort, b.Spec.Ports[0].NodePort = b.Spec.Ports[0].NodePort, a.Spec.Ports[0].NodePort
		w.Apply(without.DeepCopy(), b, a)
	}
	for _, n := range w.nodes() {
		w.answers(w.everywhere(), nodeIPs(n, one), "pod-2")
		w.answers(w.everywhere(), nodeIPs(n, two), "pod-1")
	}
	w.answers(w.inside(), vips(a, 80), "pod-1")
	w.answers(w.inside(), vips(b, 80), "pod-2")
}
