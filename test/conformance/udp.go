package conformance

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// udp is about datagrams.
var udp = []Case{
	{Number: 2, Name: "three ready pods all answer datagrams", Open: "UDP"},
	{Number: 3, Name: "one port number for TCP and UDP", Open: "UDP", run: sameNumber},
	{Number: 69, Name: "a UDP client goes on while its backend is replaced", Open: "UDP"},
	{Number: 70, Name: "a UDP client that was there before the endpoints", Open: "UDP"},
	{Number: 71, Name: "large requests and datagrams", Open: "UDP", run: largeRequests},
}

// sameNumber: the TCP port is served whatever becomes of the UDP port.
func sameNumber(w *World) {
	udp := corev1.ServicePort{Name: "udp", Port: 80, Protocol: corev1.ProtocolUDP}
	s := w.service("same-number", tcp("tcp", 80), udp)
	w.apply(objects(s, slicesOf(s, "a", "tcp", 8080, w.Pods[0]))...)
	w.answers(w.inside(), vips(s, 80), "pod-1")
}

// largeRequests: what a client sends comes back whole, however large it is.
func largeRequests(w *World) {
	const port = 7071
	pod := w.Pods[0]
	for _, addr := range []netip.AddrPort{pod.AddrPort4(port), pod.AddrPort6(port)} {
		w.t.Cleanup(pod.ServeTCPEcho(addr).Close)
	}
	s := w.service("large", tcp("", 80))
	w.apply(objects(s, slicesOf(s, "a", "", port, pod))...)
	w.settle()
	for _, vip := range vips(s, 80) {
		for _, size := range []int{2000, 64 << 10, 4 << 20} {
			if err := w.bridged().echo(vip, size); err != nil {
				w.t.Errorf("%s, %d bytes: %v", vip, size, err)
			}
		}
	}
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
