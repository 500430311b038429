package conformance

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// A datagramServer answers "<path> <number>" with its name and the number, on the
// path /clientip with the address that it was asked from and the number.
type datagramServer struct {
	name string
	conn *net.UDPConn
	done chan struct{}
}

// serveDatagrams runs one until the namespace ends.
func serveDatagrams(ns *netns.NS, name string, addr netip.AddrPort) *datagramServer {
	s := &datagramServer{name, ns.ListenUDP(addr), make(chan struct{})}
	go s.serve()
	return s
}

// Close ends it: from now on its port refuses. It may be called any number of
// times.
func (s *datagramServer) Close() {
	s.conn.Close()
	<-s.done
}

func (s *datagramServer) serve() {
	defer close(s.done)
	buf := make([]byte, 512)
	for {
		n, client, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // else an answer was refused
			s.conn.WriteToUDPAddrPort([]byte(s.answer(string(buf[:n]), client)), client)
		}
	}
}

func (s *datagramServer) answer(request string, client netip.AddrPort) string {
	path, number, _ := strings.Cut(request, " ")
	if path == "/clientip" {
		return client.String() + " " + number
	}
	return s.name + " " + number
}

// oneDatagram is how long the answer to one may take. Nothing in the lab loses any.
const oneDatagram = 2 * time.Second

// getDatagram asks once, from a new port.
func (f from) getDatagram(addr netip.AddrPort, path string) (string, error) {
	fl, err := f.flow(addr)
	if err != nil {
		return "", err
	}
	defer fl.conn.Close()
	return fl.ask(path, oneDatagram)
}

// reach asks from one new port, again and again, until it gets an answer or is
// refused. Its socket is connected, so that it is told of ICMP errors. They are
// rationed: not every datagram is met with one.
func (f from) reach(ctx context.Context, addr netip.AddrPort) error {
	const pause = 100 * time.Millisecond
	conn, err := f.DialContext(ctx, "udp", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		conn.SetDeadline(time.Now().Add(pause))
		_, err := conn.Write([]byte("/ 0"))
		if err == nil || isFiltered(err) {
			_, err = conn.Read(make([]byte, 512))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}
