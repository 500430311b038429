package conformance

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// dualStack has Services whose families differ in their pods: pod-1 is there by
// IPv4 and pod-2 by IPv6.
func dualStack(w *World) {
	v4, v6 := w.Pods[:1], w.Pods[1:2]
	port := w.newNodePort()
	both, v6First := w.service("both", nodePort("", 80, port)), w.service("v6-first", tcp("", 80))
	both.Spec.Type = corev1.ServiceTypeNodePort
	slices.Reverse(v6First.Spec.ClusterIPs)
	slices.Reverse(v6First.Spec.IPFamilies)
	v6First.Spec.ClusterIP = v6First.Spec.ClusterIPs[0]
	w.apply(objects(both, perFamily(both, v4, v6))...)
	w.apply(objects(v6First, perFamily(v6First, v4, v6))...)
	w.eachFamily(vips(both, 80), "pod-1", "pod-2")
	w.eachFamily(vips(v6First, 80), "pod-1", "pod-2")
	w.eachFamily(nodeIPs(w.Node, port), "pod-1", "pod-2")

	// For a family without pods the other one does not stand in.
	w.Apply(perFamily(both, v4, nil)...)
	w.eachFamily(vips(both, 80), "pod-1", "")
	w.Apply(perFamily(both, nil, v6)...)
	w.eachFamily(vips(both, 80), "", "pod-2")
	w.singleStack()
}

// singleStack has Services of one family, with endpoints in both: nothing of the
// other family is theirs, and its endpoints are nobody's.
func (w *World) singleStack() {
	for family, name := range []string{"pod-1", "pod-2"} {
		port := w.newNodePort()
		s := w.service("only-"+name, nodePort("", 80, port))
		s.Spec.Type = corev1.ServiceTypeNodePort
		other := vips(s, 80)[1-family]
		one := corev1.IPFamilyPolicySingleStack
		s.Spec.IPFamilyPolicy = &one
		s.Spec.IPFamilies = s.Spec.IPFamilies[family : family+1]
		s.Spec.ClusterIPs = s.Spec.ClusterIPs[family : family+1]
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
		w.apply(objects(s, perFamily(s, w.Pods[:1], w.Pods[1:2]))...)
		ports := nodeIPs(w.Node, port)
		w.answers(w.everywhere(), []netip.AddrPort{vips(s, 80)[0], ports[family]}, name)
		w.unanswered(w.everywhere(), other, ports[1-family])
	}
}

// eachFamily waits until the addresses are answered by the server of their
// family, or refused where that is empty, from everywhere.
func (w *World) eachFamily(addrs []netip.AddrPort, v4, v6 string) {
	w.t.Helper()
	for _, addr := range addrs {
		name := v4
		if addr.Addr().Is6() {
			name = v6
		}
		if name == "" {
			w.refuses(w.everywhere(), addr)
		} else {
			w.answers(w.everywhere(), []netip.AddrPort{addr}, name)
		}
	}
}

// perFamily are the slices of a Service with pods that differ by family.
func perFamily(s *corev1.Service, v4, v6 []*netns.Pod) []Object {
	list, other := slicesOf(s, "a", "", 8080, v4...), slicesOf(s, "a", "", 8080, v6...)
	list[1] = other[1]
	for _, o := range list {
		if sl := o.(*discoveryv1.EndpointSlice); sl.Endpoints == nil {
			sl.Endpoints = []discoveryv1.Endpoint{}
		}
	}
	return list
}
