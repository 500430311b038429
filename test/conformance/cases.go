package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// Case is one rule.
type Case struct {
	Number int
	Name   string
	// Open says which part of the case is not served yet, empty if none.
	Open string
	run  func(*World)
}

// Cases are those that usher is held to so far.
var Cases = []Case{
	{1, "three ready pods all answer, from everywhere", "", spread},
	{4, "a TCP port does not answer UDP", "", tcpOnly},
	{5, "two named ports with a slice each", "", namedPorts},
	{6, "two slices are one set", "", twoSlices},
	{7, "one port name with another number in each slice", "", targetNumbers},
	{8, "a slice of another port name or protocol is not the port's", "", otherPort},
	{9, "ports come and go on a live Service", "", portsChange},
	{10, "no endpoints: refused", "", noEndpoints},
	{13, "a Service deleted and made again", "", recreated},
	{19, "conditions that nobody set", "", nilConditions},
	{38, "a pod calls its own Service", "", hairpin},
	{39, "endpoints on the host network", "UDP", hostNetwork},
	{40, "a NodePort answers on every address of the node", "", nodePorts},
	{41, "the NodePort of a deleted Service is not answered", "UDP", nodePortDeleted},
	{74, "an endpoint that refuses or swallows costs no connection, and no other client time", "", badEndpoint},
	{75, "the client half-closes and gets the whole answer", "", halfClose},
}

// Run runs all cases in a World, and says how many parts of them are open.
func Run(t *testing.T, w *World) {
	open := 0
	for _, c := range Cases {
		name := fmt.Sprintf("%02d %s", c.Number, c.Name)
		if c.Open != "" {
			open++
			name += " (open: " + c.Open + ")"
		}
		t.Run(name, func(t *testing.T) { c.run(w.forCase(t)) })
	}
	t.Logf("conformance: %d of 75 cases run, %d of them with a part still open", len(Cases), open)
}

func spread(w *World) {
	s := w.service("spread", tcp("", 80))
	w.apply(objects(s, slices(s, "a", "", 8080, w.Pods...))...)
	w.answers(w.everywhere(), vips(s, 80), "pod-1", "pod-2", "pod-3")
}

func tcpOnly(w *World) {
	s := w.service("tcp-only", tcp("", 80))
	w.Pods[0].ServeUDPEcho(w.Pods[0].AddrPort4(8080))
	w.apply(objects(s, slices(s, "a", "", 8080, w.Pods[0]))...)
	w.answers(w.inside(), vips(s, 80), "pod-1")
	for _, f := range w.inside() {
		w.silentUDP(f, vips(s, 80)[0])
	}
}

func namedPorts(w *World) {
	s := w.service("named", tcp("main", 80), tcp("alt", 81))
	w.apply(objects(s, slices(s, "main", "main", 8080, w.Pods[0]), slices(s, "alt", "alt", 8081, w.Pods[1]))...)
	w.answers(w.inside(), vips(s, 80), "pod-1")
	w.answers(w.inside(), vips(s, 81), "pod-2-alt")
}

func twoSlices(w *World) {
	s := w.service("slices", tcp("http", 80))
	w.apply(objects(s, slices(s, "a", "http", 8080, w.Pods[0]), slices(s, "b", "http", 8080, w.Pods[1:]...))...)
	w.answers(w.inside(), vips(s, 80), "pod-1", "pod-2", "pod-3")
}

func targetNumbers(w *World) {
	s := w.service("numbers", tcp("http", 80))
	w.apply(objects(s, slices(s, "a", "http", 8080, w.Pods[0]), slices(s, "b", "http", 8081, w.Pods[1]))...)
	w.answers(w.inside(), vips(s, 80), "pod-1", "pod-2-alt")
}

func otherPort(w *World) {
	name, protocol := w.service("other-name", tcp("http", 80)), w.service("other-protocol", tcp("http", 80))
	w.apply(objects(name, slices(name, "a", "web", 8080, w.Pods...))...)
	w.apply(protocol, slice(protocol, "a", "http", 8080, corev1.ProtocolUDP, w.Pods[0].IPv4))
	w.refuses(w.inside(), vips(name, 80)...)
	w.refuses(w.inside(), vips(protocol, 80)...)
}

func portsChange(w *World) {
	s := w.service("ports", tcp("main", 80))
	w.apply(objects(s, slices(s, "main", "main", 8080, w.Pods[0]), slices(s, "alt", "alt", 8081, w.Pods[1]))...)
	w.answers(w.inside(), vips(s, 80), "pod-1")
	w.unanswered(w.inside(), vips(s, 81)...)

	// Somebody holds a connection to the port that stays, all along.
	held := w.hold(w.inside()[0], vips(s, 80)[0])
	s.Spec.Ports = []corev1.ServicePort{tcp("main", 80), tcp("alt", 81)}
	w.Apply(s)
	w.answers(w.inside(), vips(s, 81), "pod-2-alt")
	s.Spec.Ports = []corev1.ServicePort{tcp("alt", 81)}
	w.Apply(s)
	w.unanswered(w.inside(), vips(s, 80)...)
	w.answers(w.inside(), vips(s, 81), "pod-2-alt")
	held()
}

// hold opens a connection and returns a function that proves it still works.
func (w *World) hold(f from, addr netip.AddrPort) func() {
	w.t.Helper()
	conn, err := f.Dial("tcp", addr.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	ask := func() {
		w.t.Helper()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: held\r\n\r\n")
		answer := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, answer); err != nil || !bytes.HasSuffix(answer, []byte("200")) {
			w.t.Errorf("a connection held open from %s got %q, %v", f.name, answer, err)
		}
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		io.Copy(io.Discard, conn) // the rest of the answer
	}
	ask()
	return ask
}

func noEndpoints(w *World) {
	s := w.service("empty", tcp("", 80))
	w.apply(s)
	w.refuses(w.everywhere(), vips(s, 80)...)
}

func recreated(w *World) {
	s := w.service("again", tcp("", 80))
	ends := slices(s, "a", "", 8080, w.Pods[0])
	w.apply(objects(s, ends)...)
	w.answers(w.inside(), vips(s, 80), "pod-1")
	old := vips(s, 80)
	w.Delete(s)
	w.unanswered(w.inside(), old...)

	again := w.service("again", tcp("", 80))
	w.Apply(again)
	w.answers(w.inside(), vips(again, 80), "pod-1")
	w.unanswered(w.inside(), old...)
}

func nilConditions(w *World) {
	s := w.service("nil", tcp("", 80))
	ends := slices(s, "a", "", 8080, w.Pods...)
	for _, o := range ends {
		for i := range o.(*discoveryv1.EndpointSlice).Endpoints {
			o.(*discoveryv1.EndpointSlice).Endpoints[i].Conditions = discoveryv1.EndpointConditions{}
		}
	}
	w.apply(objects(s, ends)...)
	w.answers(w.inside(), vips(s, 80), "pod-1", "pod-2", "pod-3")
}

func hairpin(w *World) {
	s := w.service("self", tcp("", 80))
	w.apply(objects(s, slices(s, "a", "", 8080, w.Pods[0]))...)
	w.answers([]from{{"the pod itself", w.Pods[0].NS}}, vips(s, 80), "pod-1")
}

func hostNetwork(w *World) {
	s := w.service("host", tcp("", 80))
	w.ServeHTTP("host", netip.AddrPortFrom(netns.NodeIPv4, 9000))
	w.ServeHTTP("host", netip.AddrPortFrom(netns.NodeIPv6, 9000))
	w.apply(s,
		slice(s, "v4", "", 9000, corev1.ProtocolTCP, netns.NodeIPv4),
		slice(s, "v6", "", 9000, corev1.ProtocolTCP, netns.NodeIPv6))
	w.answers(w.inside(), vips(s, 80), "host")
}

// nodeAddrs are the node's addresses, with a port.
func nodeAddrs(port uint16) []netip.AddrPort {
	var list []netip.AddrPort
	for _, a := range []netip.Addr{
		netns.NodeIPv4, netns.NodeIPv6,
		netip.MustParseAddr("10.244.1.1"), netip.MustParseAddr("fd00:10:244:1::1"),
	} {
		list = append(list, netip.AddrPortFrom(a, port))
	}
	return list
}

func nodePorts(w *World) {
	s := w.service("nodeport", nodePort("", 80, 30080))
	s.Spec.Type = corev1.ServiceTypeNodePort
	w.apply(objects(s, slices(s, "a", "", 8080, w.Pods...))...)
	w.answers(w.inside(), nodeAddrs(30080), "pod-1", "pod-2", "pod-3")
	w.answers([]from{{"a client outside", w.Node.Client}}, nodeAddrs(30080)[:2], "pod-1", "pod-2", "pod-3")
	w.answers(w.inside(), vips(s, 80), "pod-1", "pod-2", "pod-3")
}

func nodePortDeleted(w *World) {
	s := w.service("nodeport-gone", nodePort("", 80, 30041))
	s.Spec.Type = corev1.ServiceTypeNodePort
	w.apply(objects(s, slices(s, "a", "", 8080, w.Pods[0]))...)
	w.answers(w.everywhere(), nodeAddrs(30041)[:2], "pod-1")
	w.Delete(s)
	w.unanswered(w.everywhere(), nodeAddrs(30041)[:2]...)
	w.Apply(w.service("nodeport-gone", tcp("", 80))) // for the cleanup to delete
}

func badEndpoint(w *World) {
	refuses, swallows := w.Pods[1], w.Pods[2]
	refuses.Run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "REJECT", "--reject-with", "tcp-reset")
	swallows.Run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "8080", "--syn", "-j", "DROP")
	w.t.Cleanup(func() {
		refuses.Run("iptables", "-F", "INPUT")
		swallows.Run("iptables", "-F", "INPUT")
	})
	s := w.service("bad", tcp("", 80))
	w.apply(objects(s, slices(s, "a", "", 8080, w.Pods...))...)
	vip := vips(s, 80)[0]
	netns.Eventually(w.t, "served", func() error { return w.inside()[0].connect(vip) })

	type result struct {
		err  error
		took time.Duration
	}
	results := make(chan result)
	const clients = 12
	for range clients {
		go func() {
			start := time.Now()
			_, err := w.inside()[0].get(vip)
			results <- result{err, time.Since(start)}
		}()
	}
	fast := 0
	for range clients {
		r := <-results
		if r.err != nil {
			w.t.Errorf("a connection failed: %v", r.err)
		}
		if r.took < time.Second {
			fast++
		}
	}
	// Each of the three endpoints is the first choice of a third of the clients,
	// and only those who begin with the one that swallows have to wait; some
	// meet it second.
	if fast < clients/4 || fast == clients {
		w.t.Errorf("%d of %d clients did not wait for anything", fast, clients)
	}
}

func halfClose(w *World) {
	pod := w.Pods[0]
	answer := bytes.Repeat([]byte("the whole answer "), 1<<16)
	for _, addr := range []netip.AddrPort{pod.AddrPort4(7000), pod.AddrPort6(7000)} {
		w.serveAfterHalfClose(pod, addr, answer)
	}
	s := w.service("half", tcp("", 80))
	w.apply(objects(s, slices(s, "a", "", 7000, pod))...)
	for _, vip := range vips(s, 80) {
		netns.Eventually(w.t, "served", func() error { return w.inside()[0].connect(vip) })
		conn, err := w.inside()[0].Dial("tcp", vip.String())
		if err != nil {
			w.t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, "request")
		conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !bytes.Equal(got, answer) {
			w.t.Errorf("%s: got %d of %d bytes, %v", vip, len(got), len(answer), err)
		}
	}
}

// serveAfterHalfClose answers each client once it has closed its half.
func (w *World) serveAfterHalfClose(pod *netns.Pod, addr netip.AddrPort, answer []byte) {
	ln := pod.Listen("tcp", addr)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				io.Copy(io.Discard, conn)
				conn.Write(answer)
			})
		}
	})
	w.t.Cleanup(func() { ln.Close(); all.Wait() })
}
