package transparent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

// askEcho sends a text and wants it back.
func askEcho(conn net.Conn, text string, timeout time.Duration) error {
	conn.SetDeadline(time.Now().Add(timeout))
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("sent %q, got %q", text, got)
	}
	return nil
}

// given one client and one endpoint, when thousands of connections are made one
// after the other, each closed by this side so that its port rests for a
// minute, then each gets a port and its own data.
func TestManyConnectionsInSequence(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		client, endpoint := l.AddPod(netns.Bridged, "client"), l.AddPod(netns.Routed, "endpoint")
		echo := endpoint.ServeTCPEcho(netip.AddrPortFrom(v.pod(endpoint), 7))
		for i := range 2000 {
			conn, err := l.dial(v.pod(client), echo.Addr, patience)
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			err = askEcho(conn, fmt.Sprint(i), patience)
			conn.Close()
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	})
}

// given a node with four ports, when a client is connected to three endpoints,
// then it has four ports to each of them, and only then none left.
func TestPortsAreSharedBetweenEndpoints(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		client, endpoint := l.AddPod(netns.Bridged, "client"), l.AddPod(netns.Routed, "endpoint")
		l.Sysctl("net/ipv4/ip_local_port_range", "40000 40003")
		for port := range uint16(3) {
			echo := endpoint.ServeTCPEcho(netip.AddrPortFrom(v.pod(endpoint), 7000+port))
			for i := range 4 {
				conn, err := l.dial(v.pod(client), echo.Addr, patience)
				if err != nil {
					t.Fatalf("connection %d to %s: %v", i, echo.Addr, err)
				}
				defer conn.Close()
			}
			if _, err := l.dial(v.pod(client), echo.Addr, patience); !errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Errorf("one connection too many: %v, want EADDRNOTAVAIL", err)
			}
		}
	})
}

// given a client that is connected to an endpoint past usher, when usher
// happens to take the same port for it, then usher's connection works and the
// client's own one gets no answers; when the client takes a port after usher
// did, then it gets no answer until usher's connection has ended. This test
// does not want it so. It says what there is to expect (see the package
// comment).
func TestPortOfTheClientItself(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		client, endpoint := l.AddPod(netns.Bridged, "client"), l.AddPod(netns.Routed, "endpoint")
		echo := endpoint.ServeTCPEcho(netip.AddrPortFrom(v.pod(endpoint), 7))
		connect := func(ns *netns.NS, d *net.Dialer, port uint16, timeout time.Duration) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(v.pod(client), port))
			conn, err := ns.DialWith(ctx, d, "tcp", echo.Addr.String())
			if err == nil {
				t.Cleanup(func() { conn.Close() })
			}
			return conn, err
		}

		direct, err := connect(client.NS, &net.Dialer{}, 40000, patience)
		l.must(err)
		l.must(askEcho(direct, "direct", patience))
		ours, err := connect(l.NS, dialer(v.pod(client)), 40000, patience)
		l.must(err)
		l.must(askEcho(ours, "ours", patience))
		if err := askEcho(direct, "direct again", hopeless); err == nil {
			t.Error("the client's own connection lives beside one with the same port")
		}
		l.must(askEcho(ours, "ours again", patience))

		ours, err = connect(l.NS, dialer(v.pod(client)), 40001, patience)
		l.must(err)
		if _, err := connect(client.NS, &net.Dialer{}, 40001, hopeless); err == nil {
			t.Error("the client gets a connection of its own beside one with the same port")
		}
		l.must(askEcho(ours, "ours still", patience))
	})
}
