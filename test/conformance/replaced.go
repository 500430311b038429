package conformance

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/dns"
	"github.com/usher-proxy/usher/test/netns"
)

// replacedPort is what the pods of the case are asked on, by servers that the case
// may end.
const replacedPort = 7069

// backendReplaced has the two pods of a Service take turns, in each way that there
// is, under clients that keep their ports.
func backendReplaced(w *World) {
	w.replacedEverywhere()
	w.replacedLocally()
	w.replacedNameServer()
}

func (w *World) replacedEverywhere() {
	w.t.Helper()
	s := w.loadBalancer("replaced", nodePort("", 80, w.newNodePort()))
	w.addExternalIPs(s)
	servesUDP(s)
	addrs := slices.Concat(vips(s, 80), policyAddrs(s, w.Node), nodeIPs(w.Node2, s.Spec.Ports[0].NodePort))
	w.replaced(s, w.flows(w.everywhere(), addrs), w.Pods[0], w.Remotes[0])
}

// replacedLocally has clients for whom there is also an endpoint that is not theirs.
func (w *World) replacedLocally() {
	w.t.Helper()
	s := w.externallyLocal("replaced-local")
	servesUDP(s)
	internalLocal(s)
	fs := slices.Concat(w.flows(w.viaNode1(), vips(s, 80)), w.flows([]from{w.outside()}, policyAddrs(s, w.Node)),
		w.flows(w.viaNode2(), nodeIPs(w.Node, s.Spec.Ports[0].NodePort)))
	w.serveUDP(w.Remotes[1], replacedPort)
	w.replaced(s, fs, w.Pods[1], w.RoutedServer, ready(w.Remotes[1]))
}

// replaced replaces one pod by another one and that again, under flows that must
// always be with the one that serves. The endpoints besides are none of theirs.
func (w *World) replaced(s *corev1.Service, fs flows, one, two *netns.Pod, besides ...endpoint) {
	w.t.Helper()
	die := w.serveUDP(one, replacedPort)
	w.serveUDP(two, replacedPort)
	are := func(ends ...endpoint) {
		w.Apply(slicesWith(s, "a", "", replacedPort, append(ends, besides...)...)...)
		w.settle()
	}
	w.apply(objects(s, slicesWith(s, "a", "", replacedPort, append(besides, ready(one))...))...)
	w.settle()
	fs.move(w, one.Name)

	// The pods that leave would still answer, so nothing is lost.
	fs.goOn(w, func() { are(ready(two)) })
	fs.move(w, two.Name)
	fs.goOn(w, func() { are(ready(one), unready(two)) })
	fs.move(w, one.Name)

	// That another one comes is no reason to move.
	fs.goOn(w, func() { are(ready(one), ready(two)) })
	fs.move(w, one.Name)

	die()
	if w.proxy.Reference() {
		are(ready(two)) // it does not know whether an endpoint answers
	}
	fs.moveAfter(w, 1, two.Name) // that one is refused
}

// serveUDP runs a server of the pod's name in it until the case ends, or until it
// is told to die.
func (w *World) serveUDP(pod *netns.Pod, port uint16) (die func()) {
	w.t.Helper()
	v4 := serveDatagrams(pod.NS, pod.Name, pod.AddrPort4(port))
	v6 := serveDatagrams(pod.NS, pod.Name, pod.AddrPort6(port))
	die = func() { v4.Close(); v6.Close() }
	w.t.Cleanup(die)
	return die
}

// replacedNameServer has resolvers that send all their questions from one port, as
// some did until ports were found to be guessed.
func (w *World) replacedNameServer() {
	w.t.Helper()
	const port = 7169
	s := w.service("replaced-dns", nodePort("", 53, w.newNodePort()))
	s.Spec.Type = corev1.ServiceTypeNodePort
	servesUDP(s)
	pods := []*netns.Pod{w.Pods[2], w.Remotes[0]}
	w.serveNames(port, pods...)
	addrs := append(vips(s, 53), nodeIPs(w.Node, s.Spec.Ports[0].NodePort)...)
	ends := slicesOf(s, "a", "", port, pods[0])
	w.apply(objects(s, ends)...)
	for _, pod := range []*netns.Pod{pods[0], pods[1], pods[0]} {
		w.Apply(slicesOf(s, "a", "", port, pod)...)
		w.settle()
		w.each([]from{w.bridged(), w.node1(), w.outside()}, addrs, "is answered by the name server of "+pod.Name, func(f from, addr netip.AddrPort) error {
			name, err := dns.Client{NS: f.NS, From: netip.AddrPortFrom(f.addr(addr.Addr()), 1053)}.Whoami(addr)
			if err == nil && name != pod.Name {
				err = fmt.Errorf("%s answers", name)
			}
			if err != nil && !w.proxy.Reference() {
				w.t.Errorf("%s from %s: %v", addr, f.name, err)
			}
			return err
		})
	}
}

// clientFirst has clients that keep their ports from before there is a Service,
// through all that becomes of it.
func clientFirst(w *World) {
	s := w.loadBalancer("client-first", nodePort("", 80, w.newNodePort()))
	w.addExternalIPs(s)
	servesUDP(s)
	addrs := slices.Concat(vips(s, 80), policyAddrs(s, w.Node), nodeIPs(w.Node2, s.Spec.Ports[0].NodePort))
	fs := w.flows(w.everywhere(), addrs)
	fs.stop(w)

	w.apply(objects(s, slicesOf(s, "a", "", 8080))...)
	w.settle()
	fs.stop(w)
	w.refuses(overUDP(w.everywhere()), vips(s, 80)...)
	pods := func(port int32, pods ...*netns.Pod) {
		w.t.Helper()
		w.Apply(slicesOf(s, "a", "", port, pods...)...)
		w.settle()
	}
	pods(8080, w.Pods[0])
	fs.move(w, "pod-1")

	fs.goOn(w, func() { pods(8081, w.Pods[0]) })
	fs.move(w, "pod-1-alt")

	pods(8081)
	if !w.proxy.Reference() { // without endpoints its clients stay with the last one (k/k#139628)
		fs.stop(w)
	}
	w.refuses(overUDP(w.everywhere()), vips(s, 80)...)
	pods(8080, w.Pods[1])
	fs.move(w, "pod-2")

	w.Delete(s)
	w.unanswered(overUDP(w.everywhere()), addrs...)
	if !w.proxy.Reference() { // it leaves their conntrack entries (k/k#141275, k/k#141371)
		fs.stop(w)
	}
	w.Apply(s)
	pods(8080, w.Pods[2])
	fs.moveAfter(w, 1, "pod-3") // that one comes when there are rules, and still conntrack entries from before
}
