package netns

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// clientTimeout bounds a whole request of [NS.HTTPClient].
const clientTimeout = 10 * time.Second

// Listen opens a listener inside the namespace. It is closed with the test at the latest.
func (ns *NS) Listen(network string, addr netip.AddrPort) net.Listener {
	ns.t.Helper()
	var l net.Listener
	var err error
	ns.Do(func() { l, err = net.Listen(network, addr.String()) })
	if err != nil {
		ns.t.Fatalf("namespace %s: %v", ns.Name, err)
	}
	ns.t.Cleanup(func() { l.Close() })
	return l
}

// ListenUDP opens a UDP socket inside the namespace. It is closed with the test at the latest.
func (ns *NS) ListenUDP(addr netip.AddrPort) *net.UDPConn {
	ns.t.Helper()
	var c *net.UDPConn
	var err error
	ns.Do(func() { c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr)) })
	if err != nil {
		ns.t.Fatalf("namespace %s: %v", ns.Name, err)
	}
	ns.t.Cleanup(func() { c.Close() })
	return c
}

// DialContext connects from inside the namespace, to an address and not a name: names are
// looked up by goroutines that are outside. The connection is the caller's to close.
func (ns *NS) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return ns.DialWith(ctx, &net.Dialer{}, network, address)
}

// DialWith is [NS.DialContext] with a dialer that says more, such as the local address.
func (ns *NS) DialWith(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial inside a namespace: %w", err)
	}
	var conn net.Conn
	var err error
	ns.Do(func() { conn, err = d.DialContext(ctx, network, address) })
	return conn, err
}

// Dial is [NS.DialContext] for a test that expects an answer within seconds, good or bad. It
// has the form that most protocol packages take for a dial function.
func (ns *NS) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	return ns.DialContext(ctx, network, address)
}

// HTTPClient returns a client that connects from inside the namespace, anew for every request
// and with a timeout.
func (ns *NS) HTTPClient() *http.Client {
	return &http.Client{
		Timeout: clientTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
				// A transport lets a dial go on after its request has ended; this one ends first.
				ctx, cancel := context.WithTimeout(context.Background(), clientTimeout-time.Second)
				defer cancel()
				return ns.DialContext(ctx, network, address)
			},
		},
	}
}

// Get fetches a URL from inside the namespace, on a connection of its own, and returns the
// body of a 200.
func (ns *NS) Get(url string) (string, error) {
	resp, err := ns.HTTPClient().Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s: %s: %s", url, resp.Status, body)
	}
	return string(body), nil
}
