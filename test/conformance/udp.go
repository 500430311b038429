package conformance

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/dns"
	"github.com/usher-proxy/usher/test/netns"
)

// datagrams are about UDP.
var datagrams = []Case{
	{Number: 2, Name: "three ready pods all answer datagrams, from the address that was asked", run: spreadDatagrams},
	{Number: 3, Name: "one port number for TCP and UDP", run: sameNumber},
	{Number: 69, Name: "a UDP client goes on while its backend is replaced", run: backendReplaced},
	{Number: 70, Name: "a UDP client that was there before the endpoints", run: clientFirst},
	{Number: 71, Name: "large requests and datagrams", run: largeRequests},
}

func spreadDatagrams(w *World) {
	s := w.loadBalancer("datagrams", nodePort("", 80, w.newNodePort()))
	w.addExternalIPs(s)
	servesUDP(s)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
	addrs := slices.Concat(vips(s, 80), policyAddrs(s, w.Node), nodeIPs(w.Node2, s.Spec.Ports[0].NodePort))
	w.answers(overUDP(w.everywhere()), addrs, "pod-1", "pod-2", "pod-3")
	w.datagramsLocal()
	w.nameServers()
}

// datagramsLocal: the traffic policies are for datagrams too.
func (w *World) datagramsLocal() {
	w.t.Helper()
	inside, outside := overUDP(w.inside()), overUDP([]from{w.outside()})
	viaNode1, viaNode2 := overUDP(w.viaNode1()), overUDP(w.viaNode2())
	s := w.externallyLocal("datagrams-local")
	servesUDP(s)
	internalLocal(s)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0], w.Remotes[0]))...)
	w.answers(viaNode1, vips(s, 80), "pod-1")
	w.answers(viaNode2, vips(s, 80), "remote-1")
	w.answers(outside, policyAddrs(s, w.Node), "pod-1")
	w.answers(viaNode2, nodeIPs(w.Node, s.Spec.Ports[0].NodePort), "pod-1")
	w.answers(inside, policyAddrs(s, w.Node), "pod-1", "remote-1")

	w.Apply(slicesOf(s, "a", "", 8080, w.Remotes[0])...)
	w.silent(viaNode1, vips(s, 80)...)
	w.silent(outside, policyAddrs(s, w.Node)...)
	w.answers(viaNode2, vips(s, 80), "remote-1")
	w.answers(inside, policyAddrs(s, w.Node), "remote-1")
}

// nameServers are asked by a resolver that is as strict as any: what dig takes for
// an answer comes from the address and port that it asked.
func (w *World) nameServers() {
	w.t.Helper()
	const port = 7002
	s := w.loadBalancer("dns", nodePort("dns", 53, w.newNodePort()), tcp("dns-tcp", 53))
	w.addExternalIPs(s)
	s.Spec.Ports[0].Protocol = corev1.ProtocolUDP
	pods := []*netns.Pod{w.Pods[0], w.RoutedServer, w.Remotes[0]}
	names := w.serveNames(port, pods...)
	w.apply(objects(s, slicesOf(s, "udp", "dns", port, pods...), slicesOf(s, "tcp", "dns-tcp", port, pods...))...)
	w.settle()

	seen := map[string]bool{}
	addrs := slices.Concat(parsed(53, s.Spec.ClusterIPs...), parsed(53, s.Spec.ExternalIPs...),
		loadBalancerIPs(s, 53), nodeIPs(w.Node, s.Spec.Ports[0].NodePort))
	w.each(w.everywhere(), addrs, "is answered by a name server", func(f from, addr netip.AddrPort) error {
		name, err := dns.Client{NS: f.NS}.Whoami(addr)
		seen[name] = true
		return err
	})
	delete(seen, "")
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, names) {
		w.t.Errorf("of the name servers %v answer, want %v", got, names)
	}
	w.each(w.inside(), vips(s, 53), "is answered over TCP", func(f from, addr netip.AddrPort) error {
		_, err := dns.Client{NS: f.NS, TCP: true}.Whoami(addr)
		return err
	})
}

// serveNames runs a name server in each pod until the case ends, and returns what
// they are called.
func (w *World) serveNames(port uint16, pods ...*netns.Pod) (names []string) {
	w.t.Helper()
	for _, p := range pods {
		names = append(names, p.Name)
		for _, addr := range []netip.AddrPort{p.AddrPort4(port), p.AddrPort6(port)} {
			dns.Serve(w.t, p.NS, p.Name, addr)
		}
	}
	return slices.Sorted(slices.Values(names))
}

// sameNumber has both ports under one number, each with pods of its own.
func sameNumber(w *World) {
	number := w.newNodePort()
	s := w.loadBalancer("same-number", nodePort("tcp", 80, number), nodePort("udp", 80, number))
	w.addExternalIPs(s)
	s.Spec.Ports[1].Protocol = corev1.ProtocolUDP
	w.apply(objects(s, slicesOf(s, "tcp", "tcp", 8080, w.Pods[0]), slicesOf(s, "udp", "udp", 8080, w.Pods[1]))...)
	addrs := append(vips(s, 80), policyAddrs(s, w.Node)...)
	overTCP, overUDP := w.everywhere(), overUDP(w.everywhere())
	w.answers(overTCP, addrs, "pod-1")
	w.answers(overUDP, addrs, "pod-2")

	// Each is changed without the other, and goes without the other.
	w.Apply(slicesOf(s, "udp", "udp", 8081, w.Pods[1])...)
	w.answers(overUDP, addrs, "pod-2-alt")
	w.answers(overTCP, addrs, "pod-1")
	w.Apply(slicesOf(s, "tcp", "tcp", 8081, w.Pods[0])...)
	w.answers(overTCP, addrs, "pod-1-alt")
	w.answers(overUDP, addrs, "pod-2-alt")
	s.Spec.Ports = s.Spec.Ports[1:]
	w.Apply(s)
	w.unanswered(overTCP, addrs...)
	w.answers(overUDP, addrs, "pod-2-alt")
}

// largeRequests: what a client sends comes back whole, however large it is.
func largeRequests(w *World) {
	const port = 7071
	pod := w.Pods[0]
	for _, addr := range []netip.AddrPort{pod.AddrPort4(port), pod.AddrPort6(port)} {
		w.t.Cleanup(pod.ServeTCPEcho(addr).Close)
		w.t.Cleanup(pod.ServeUDPEcho(addr).Close)
	}
	s := w.service("large", tcp("tcp", 80), udp("udp", 80))
	w.apply(objects(s, slicesOf(s, "tcp", "tcp", port, pod), slicesOf(s, "udp", "udp", port, pod))...)
	w.settle()
	for _, vip := range vips(s, 80) {
		for _, size := range []int{2000, 64 << 10, 4 << 20} {
			if err := w.bridged().echo(vip, size); err != nil {
				w.t.Errorf("%s, %d bytes: %v", vip, size, err)
			}
		}
		for _, f := range w.everywhere() {
			if err := f.echoDatagrams(vip, datagramSizes(vip)...); err != nil {
				w.t.Errorf("%s from %s: %v", vip, f.name, err)
			}
		}
	}
}

// datagramSizes are those from which on something is different: nothing, something,
// what an IPv4 packet on Ethernet has room for, what agnhost is asked for, a jumbo
// frame, and the most that there is.
func datagramSizes(to netip.AddrPort) []int {
	const ip4Header, udpHeader = 20, 8
	sizes := []int{0, 1, 1472, 1473, 2000, 9000, 65535 - ip4Header - udpHeader}
	if to.Addr().Is6() {
		sizes = append(sizes, 65535-udpHeader)
	}
	return sizes
}

// echo sends so many bytes and wants them back.
func (f from) echo(addr netip.AddrPort, size int) error {
	conn, err := f.Dial("tcp", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	sent := make([]byte, size)
	rand.Read(sent)
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		written <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	if err = errors.Join(err, <-written); err == nil && !bytes.Equal(got, sent) {
		err = fmt.Errorf("%d other bytes came back", len(got))
	}
	return err
}

// echoDatagrams sends datagrams of these sizes from one port, one after the other,
// and wants each back as it was.
func (f from) echoDatagrams(addr netip.AddrPort, sizes ...int) error {
	fl, err := f.flow(addr)
	if err != nil {
		return err
	}
	defer fl.conn.Close()
	buf := make([]byte, 1<<16)
	for _, size := range sizes {
		sent := make([]byte, size)
		rand.Read(sent)
		fl.conn.SetDeadline(time.Now().Add(oneDatagram))
		if _, err := fl.conn.WriteToUDPAddrPort(sent, addr); err != nil {
			return fmt.Errorf("%d bytes: %w", size, err)
		}
		n, source, err := fl.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return fmt.Errorf("%d bytes: %w", size, err)
		}
		if !bytes.Equal(buf[:n], sent) || source != addr {
			return fmt.Errorf("%d bytes: %d came back from %s, or others", size, n, source)
		}
	}
	return nil
}
