package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

const usherOnly = "the rule is usher's own"

// basics are what every Service needs.
var basics = []Case{
	{Number: 1, Name: "three ready pods all answer, from everywhere", run: spread},
	{Number: 4, Name: "a TCP port does not answer UDP, nor the other way round", run: otherProtocol},
	{Number: 5, Name: "two named ports with a slice each", run: namedPorts},
	{Number: 6, Name: "two slices are one set", run: twoSlices},
	{Number: 7, Name: "one port name with another number in each slice", run: targetNumbers},
	{Number: 8, Name: "a slice of another port name or protocol is not the port's", run: otherPort},
	{Number: 9, Name: "ports come and go on a live Service", run: portsChange},
	{Number: 10, Name: "no endpoints: refused", run: noEndpoints},
	{Number: 38, Name: "a pod calls its own Service", run: hairpin},
	{Number: 39, Name: "endpoints on the host network", run: hostNetwork},
	{Number: 74, Name: "an endpoint that refuses or swallows costs no connection, and no other client time", Reference: usherOnly, run: badEndpoint},
	{Number: 75, Name: "the client half-closes and gets the whole answer", Reference: usherOnly, run: halfClose},
}

func spread(w *World) {
	s := w.service("spread", tcp("", 80))
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
	w.answers(w.everywhere(), vips(s, 80), "pod-1", "pod-2", "pod-3")
}

// otherProtocol has a server that would answer by both.
func otherProtocol(w *World) {
	for i, is := range transports {
		isNot := transports[1-i]
		s := w.loadBalancer(is.name+"-only", nodePort("", 80, w.newNodePort()))
		w.addExternalIPs(s)
		is.serves(s)
		w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
		addrs := append(vips(s, 80), policyAddrs(s, w.Node)...)
		w.answers(is.over(w.everywhere()), addrs, "pod-1")
		w.unanswered(isNot.over(w.everywhere()), addrs...)
	}
}

func namedPorts(w *World) {
	s := w.service("named", tcp("main", 80), tcp("alt", 81))
	w.apply(objects(s, slicesOf(s, "main", "main", 8080, w.Pods[0]), slicesOf(s, "alt", "alt", 8081, w.Pods[1]))...)
	w.answers(w.inside(), vips(s, 80), "pod-1")
	w.answers(w.inside(), vips(s, 81), "pod-2-alt")
}

func twoSlices(w *World) {
	s := w.service("slices", tcp("http", 80))
	w.apply(objects(s, slicesOf(s, "a", "http", 8080, w.Pods[0]), slicesOf(s, "b", "http", 8080, w.Pods[1:]...))...)
	w.answers(w.inside(), vips(s, 80), "pod-1", "pod-2", "pod-3")
}

func targetNumbers(w *World) {
	s := w.service("numbers", tcp("http", 80))
	w.apply(objects(s, slicesOf(s, "a", "http", 8080, w.Pods[0]), slicesOf(s, "b", "http", 8081, w.Pods[1]))...)
	w.answers(w.inside(), vips(s, 80), "pod-1", "pod-2-alt")
}

func otherPort(w *World) {
	name, protocol := w.service("other-name", tcp("http", 80)), w.service("other-protocol", tcp("http", 80))
	w.apply(objects(name, slicesOf(name, "a", "web", 8080, w.Pods...))...)
	w.apply(protocol, slice(protocol, "a", "http", 8080, corev1.ProtocolUDP, w.Pods[0].IPv4))
	w.refuses(w.inside(), vips(name, 80)...)
	w.refuses(w.inside(), vips(protocol, 80)...)
}

func portsChange(w *World) {
	s := w.service("ports", tcp("main", 80))
	w.apply(objects(s, slicesOf(s, "main", "main", 8080, w.Pods[0]), slicesOf(s, "alt", "alt", 8081, w.Pods[1]))...)
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

func hairpin(w *World) {
	s := w.service("self", tcp("", 80))
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	w.answers([]from{w.pod(w.Pods[0])}, vips(s, 80), "pod-1")
}

func hostNetwork(w *World) {
	s := w.service("host", tcp("", 80))
	w.ServeHTTP("host", netip.AddrPortFrom(netns.NodeIPv4, 9000))
	w.ServeHTTP("host", netip.AddrPortFrom(netns.NodeIPv6, 9000))
	w.apply(s,
		slice(s, "v4", "", 9000, corev1.ProtocolTCP, netns.NodeIPv4),
		slice(s, "v6", "", 9000, corev1.ProtocolTCP, netns.NodeIPv6))
	w.answers(w.inside(), vips(s, 80), "host")

	datagrams := w.service("host-udp", udp("", 80))
	w.apply(objects(datagrams, slicesOf(datagrams, "a", "", 9039, w.hostPod(w.Node, 9039)))...)
	w.answers(overUDP(w.everywhere()), vips(datagrams, 80), "node-1")
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
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
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
	w.apply(objects(s, slicesOf(s, "a", "", 7000, pod))...)
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
