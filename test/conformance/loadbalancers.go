package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// loadBalancers are about load balancer and external addresses.
var loadBalancers = []Case{
	{Number: 11, Name: "no endpoints: refused on NodePort, external and load balancer address", run: noEndpointsOutside},
	{Number: 45, Name: "an external address that no node has", run: externalAddress},
	{Number: 46, Name: "load balancer addresses by ipMode", run: ipModes},
	{Number: 47, Name: "source ranges let some in and are silent to others", run: sourceRanges},
	{Number: 48, Name: "source ranges with the node's address let the load balancer's own in", run: sourceRangesOfNode},
	{Number: 49, Name: "source ranges of one family leave the other one open", run: sourceRangesOfFamily},
	{Number: 50, Name: "source ranges that hold everybody, and none", run: sourceRangesOfAll},
	{Number: 51, Name: "a load balancer Service without NodePorts", run: withoutNodePorts},
	{Number: 52, Name: "addresses with leading zeros or spaces", run: oddAddresses},
}

func noEndpointsOutside(w *World) {
	s := w.loadBalancer("empty-outside", nodePort("", 80, w.newNodePort()))
	w.addExternalIPs(s)
	w.apply(s)
	for _, n := range w.nodes() {
		w.refuses(w.everywhere(), nodeIPs(n, s.Spec.Ports[0].NodePort)...)
	}
	who := w.everywhere()
	if w.proxy.Reference() {
		// Its iptables mode rejects in INPUT and FORWARD, but not what a node itself sends.
		who = slices.DeleteFunc(who, func(f from) bool { return f.NS == w.Node.NS || f.NS == w.Node2.NS })
	}
	w.refuses(who, append(externalIPs(s, 80), loadBalancerIPs(s, 80)...)...)
}

func externalAddress(w *World) {
	s := w.service("external", tcp("", 80))
	w.addExternalIPs(s)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0], w.Remotes[0]))...)
	w.answers(w.everywhere(), externalIPs(s, 80), "pod-1", "remote-1")
}

// ipModes has a load balancer that is really there, outside, with the address
// that is told with ipMode Proxy.
func ipModes(w *World) {
	unset, vip := w.loadBalancer("ipmode-unset", tcp("", 80)), w.loadBalancer("ipmode-vip", tcp("", 80))
	setIPMode(vip, corev1.LoadBalancerIPModeVIP)
	for _, s := range []*corev1.Service{unset, vip} {
		w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
		w.answers(w.everywhere(), loadBalancerIPs(s, 80), "pod-1")
	}

	proxy := w.loadBalancer("ipmode-proxy", tcp("", 80))
	setIPMode(proxy, corev1.LoadBalancerIPModeProxy)
	addrs := loadBalancerIPs(proxy, 80)
	for _, a := range addrs {
		addLocal(w, w.Node.Client, a.Addr())
		w.t.Cleanup(w.Node.Client.ServeHTTP("load-balancer", a).Close)
	}
	w.apply(objects(proxy, slicesOf(proxy, "a", "", 8080, w.Pods[0]))...)
	inCluster := append(w.inside(), w.remote(), w.node2())
	for _, mode := range []struct {
		corev1.LoadBalancerIPMode
		answers string
	}{
		{corev1.LoadBalancerIPModeProxy, "load-balancer"},
		{corev1.LoadBalancerIPModeVIP, "pod-1"},
		{corev1.LoadBalancerIPModeProxy, "load-balancer"},
	} {
		setIPMode(proxy, mode.LoadBalancerIPMode)
		w.Apply(proxy)
		w.settle()
		w.answers(inCluster, addrs, mode.answers)
	}
}

func setIPMode(s *corev1.Service, mode corev1.LoadBalancerIPMode) {
	for i := range s.Status.LoadBalancer.Ingress {
		s.Status.LoadBalancer.Ingress[i].IPMode = &mode
	}
}

// addLocal gives a namespace an address until the case ends.
func addLocal(w *World, ns *netns.NS, addr netip.Addr) {
	w.t.Helper()
	prefix := netip.PrefixFrom(addr, addr.BitLen()).String()
	words := []string{prefix, "dev", "lo"}
	if addr.Is6() {
		words = append(words, "nodad")
	}
	ns.Run("ip", append([]string{"addr", "add"}, words...)...)
	w.t.Cleanup(func() { ns.Run("ip", "addr", "del", prefix, "dev", "lo") })
}

// ranged is a load balancer Service with other addresses as well, and pod-1 as
// its endpoint.
func (w *World) ranged(name string, ranges ...string) *corev1.Service {
	w.t.Helper()
	s := w.loadBalancer(name, nodePort("", 80, w.newNodePort()))
	w.addExternalIPs(s)
	s.Spec.LoadBalancerSourceRanges = ranges
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	return s
}

// rangesOf are ranges that hold nothing but these addresses.
func rangesOf(addrs ...netip.Addr) (ranges []string) {
	for _, a := range addrs {
		ranges = append(ranges, netip.PrefixFrom(a, a.BitLen()).String())
	}
	return ranges
}

// but leaves out one of the clients.
func but(who []from, one from) []from {
	return slices.DeleteFunc(slices.Clone(who), func(f from) bool { return f.name == one.name })
}

func sourceRanges(w *World) {
	s := w.ranged("ranges", rangesOf(w.Client.IPv4, w.Client.IPv6)...)
	addrs := loadBalancerIPs(s, 80)
	w.answers([]from{w.bridged()}, addrs, "pod-1")
	w.silent(but(w.everywhere(), w.bridged()), addrs...)
	for _, n := range w.nodes() {
		w.answers(w.everywhere(), nodeIPs(n, s.Spec.Ports[0].NodePort), "pod-1")
	}
	w.answers(w.everywhere(), append(vips(s, 80), externalIPs(s, 80)...), "pod-1")

	s.Spec.LoadBalancerSourceRanges = rangesOf(netns.ClientIPv4, netns.ClientIPv6)
	w.Apply(s)
	w.silent(but(w.everywhere(), w.outside()), addrs...)
	w.answers([]from{w.outside()}, addrs, "pod-1")
	if w.proxy.Reference() {
		return // without endpoints its iptables mode refuses everybody, its nftables mode does not
	}
	w.Apply(slicesOf(s, "a", "", 8080)...)
	w.silent(but(w.everywhere(), w.outside()), addrs...)
	w.refuses([]from{w.outside()}, addrs...)
}

// sourceRangesOfNode has a node with the load balancer's address on an
// interface, so that what it sends there comes from that address.
func sourceRangesOfNode(w *World) {
	s := w.ranged("ranges-node", rangesOf(w.Node.IPv4, w.Node.IPv6)...)
	addrs := loadBalancerIPs(s, 80)
	for _, a := range addrs {
		addLocal(w, w.Node.NS, a.Addr())
	}
	w.answers([]from{w.node1()}, addrs, "pod-1")
	for _, a := range addrs {
		netns.Eventually(w.t, fmt.Sprintf("%s is answered to itself", a), func() error {
			return answeredTo(w.Node.NS, a.Addr(), a, "pod-1")
		})
	}
	w.silent(but(w.everywhere(), w.node1()), addrs...)

	// Without the node in the ranges its load balancer's address is no better.
	s.Spec.LoadBalancerSourceRanges = rangesOf(w.Client.IPv4, w.Client.IPv6)
	w.Apply(s)
	w.silent([]from{w.node1(), w.routed()}, addrs...)
	w.answers([]from{w.bridged()}, addrs, "pod-1")
	for _, a := range addrs {
		var timeout net.Error
		if err := answeredTo(w.Node.NS, a.Addr(), a, "pod-1"); !errors.As(err, &timeout) || !timeout.Timeout() {
			w.t.Errorf("%s to itself: want silence, got %v", a, err)
		}
	}
}

// answeredTo asks addr once, from the address source.
func answeredTo(ns *netns.NS, source netip.Addr, addr netip.AddrPort, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), silence)
	defer cancel()
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
	conn, err := ns.DialWith(ctx, dialer, "tcp", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(refusal))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", addr)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	if answer, err := io.ReadAll(response.Body); err != nil || string(answer) != name {
		return fmt.Errorf("%q answers, %v", answer, err)
	}
	return nil
}

func sourceRangesOfFamily(w *World) {
	v4 := w.ranged("ranges-v4", rangesOf(w.Client.IPv4)...)
	v6 := w.ranged("ranges-v6", rangesOf(w.Client.IPv6)...)
	addrs4, addrs6 := loadBalancerIPs(v4, 80), loadBalancerIPs(v6, 80)
	w.answers([]from{w.bridged()}, append(addrs4, addrs6...), "pod-1")
	w.silent(but(w.everywhere(), w.bridged()), addrs4[0], addrs6[1])
	w.answers(w.everywhere(), []netip.AddrPort{addrs4[1], addrs6[0]}, "pod-1")
}

func sourceRangesOfAll(w *World) {
	closed := rangesOf(w.Client.IPv4, w.Client.IPv6)
	s := w.ranged("ranges-all", closed...)
	addrs := loadBalancerIPs(s, 80)
	for _, open := range [][]string{
		{"0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"},
		append([]string{"0.0.0.0/0", "::/0"}, closed...),
		nil,
	} {
		w.silent([]from{w.routed(), w.outside()}, addrs...)
		s.Spec.LoadBalancerSourceRanges = open
		w.Apply(s)
		w.answers(w.everywhere(), addrs, "pod-1")
		s.Spec.LoadBalancerSourceRanges = closed
		w.Apply(s)
	}
}

func withoutNodePorts(w *World) {
	s := w.loadBalancer("no-nodeport", tcp("", 80))
	addrs := loadBalancerIPs(s, 80)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	w.answers(w.everywhere(), addrs, "pod-1")
	held := w.hold(w.bridged(), addrs[0])

	allocate := func(yes bool, nodePort int32) {
		s.Spec.AllocateLoadBalancerNodePorts, s.Spec.Ports[0].NodePort = &yes, nodePort
		w.Apply(s)
	}
	port := w.newNodePort()
	allocate(true, port)
	w.answers(w.everywhere(), append(nodeIPs(w.Node, port), addrs...), "pod-1")
	allocate(false, port) // one that is there stays
	w.settle()
	w.answers(w.everywhere(), append(nodeIPs(w.Node, port), addrs...), "pod-1")
	allocate(false, 0)
	w.unanswered(w.everywhere(), nodeIPs(w.Node, port)...)
	w.answers(w.everywhere(), addrs, "pod-1")
	held()
}

// oddAddresses has objects as older API servers let them in: leading zeros are
// no octal numbers, and ranges may stand between spaces.
func oddAddresses(w *World) {
	s := w.loadBalancer("odd", tcp("", 80))
	w.addExternalIPs(s)
	addrs := slices.Concat(vips(s, 80), externalIPs(s, 80), loadBalancerIPs(s, 80))
	s.Spec.ClusterIP = zeros(s.Spec.ClusterIP)
	s.Spec.ClusterIPs[0] = s.Spec.ClusterIP
	s.Spec.ExternalIPs[0] = zeros(s.Spec.ExternalIPs[0])
	s.Status.LoadBalancer.Ingress[0].IP = zeros(s.Status.LoadBalancer.Ingress[0].IP)
	s.Spec.LoadBalancerSourceRanges = []string{
		" " + zeros(w.Client.IPv4.String()) + "/32", w.Client.IPv6.String() + "/128 ",
	}
	ends := slicesOf(s, "a", "", 8080, w.Pods[0])
	e := ends[0].(*discoveryv1.EndpointSlice).Endpoints[0]
	e.Addresses[0] = zeros(e.Addresses[0])
	w.apply(objects(s, ends)...)
	w.answers([]from{w.bridged()}, addrs, "pod-1")
	w.silent([]from{w.routed(), w.outside()}, addrs[4:]...)
}

// zeros writes an IPv4 address with leading zeros, such as 010.096.001.020.
func zeros(addr string) string {
	ip := netip.MustParseAddr(addr).As4()
	return fmt.Sprintf("%03d.%03d.%03d.%03d", ip[0], ip[1], ip[2], ip[3])
}
