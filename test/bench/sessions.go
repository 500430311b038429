package bench

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// clientSubnets is how many /24 the clients of the sessions come from.
const clientSubnets = 4

// openClients opens sockets of the client, connected to an address and closed with the
// measurement.
func (l *lab) openClients(n int, to netip.AddrPort) []net.Conn {
	l.t.Helper()
	from := l.addClientAddrs(clientSubnets)
	var conns []net.Conn
	var err error
	l.t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	l.client.Do(func() {
		for i := 0; i < n && err == nil; i++ {
			local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(from[i%len(from)], 0))
			var c net.Conn
			if c, err = net.DialUDP("udp", local, net.UDPAddrFromAddrPort(to)); err == nil {
				conns = append(conns, c)
			}
		}
	})
	if err != nil {
		l.t.Fatalf("open socket %d of %d: %v", len(conns)+1, n, err)
	}
	return conns
}

// Bounds of asking on all sockets.
const (
	attempts    = 3
	askPatience = time.Minute
)

// askAll asks once on each socket, again where the answer is lost.
func askAll(conns []net.Conn) error {
	deadline := time.Now().Add(askPatience)
	for i, c := range conns {
		var err error
		for attempt := range attempts {
			if err = ask(c, uint16(attempt)); err == nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("session %d of %d, %d attempts: %w", i+1, len(conns), attempts, err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d sessions answered within %v", i+1, len(conns), askPatience)
		}
	}
	return nil
}
