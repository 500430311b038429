package dns

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// servers are two name servers on one node, one by each family.
func servers(t *testing.T) (*netns.Node, []*Server) {
	node := netns.NewNode(t, "node")
	one, two := node.AddPod(netns.Bridged, "one"), node.AddPod(netns.Routed, "two")
	return node, []*Server{
		Serve(t, one.NS, one.Name, one.AddrPort4(53)),
		Serve(t, two.NS, two.Name, two.AddrPort6(5353)),
	}
}

func TestServersTellTheirNames(t *testing.T) {
	node, servers := servers(t)
	for _, s := range servers {
		for _, tcp := range []bool{false, true} {
			if answer, err := (Client{NS: node.NS, TCP: tcp}).Whoami(s.Addr); err != nil || answer != s.Name {
				t.Errorf("%s: %q, %v", s.Name, answer, err)
			}
		}
	}
}

// A server answers as often as it is asked, also from one and the same port.
func TestClientKeepsItsPort(t *testing.T) {
	node, servers := servers(t)
	for i, from := range []netip.Addr{node.Bridge4, node.IPv6} {
		c := Client{NS: node.NS, From: netip.AddrPortFrom(from, 4053)}
		// While another socket has that port, dig cannot ask from it.
		held := node.ListenUDP(c.From)
		if answer, err := c.Whoami(servers[i].Addr); err == nil {
			t.Errorf("%s answers at a port that is taken: %s", servers[i].Name, answer)
		}
		held.Close()
		for range 3 {
			if answer, err := c.Whoami(servers[i].Addr); err != nil || answer != servers[i].Name {
				t.Fatalf("%q, %v", answer, err)
			}
		}
	}
}

func TestClosedServerRefuses(t *testing.T) {
	node, servers := servers(t)
	for _, s := range servers {
		s.Close()
		s.Close()
		if answer, err := (Client{NS: node.NS}).Whoami(s.Addr); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%q, %v", answer, err)
		}
	}
}

// An answer from another address than the one that was asked is none, whatever it says.
func TestClientTakesNoAnswerFromElsewhere(t *testing.T) {
	node, servers := servers(t)
	client := node.AddPod(netns.Bridged, "client")
	asked := node.ListenUDP(netip.AddrPortFrom(node.Bridge4, 53))
	elsewhere := node.ListenUDP(netip.AddrPortFrom(node.Bridge4, 54))
	for _, from := range []*net.UDPConn{asked, elsewhere} {
		done := make(chan error)
		go func() { done <- relay(asked, from, servers[0].Addr) }()
		answer, err := Client{NS: client.NS}.Whoami(asked.LocalAddr().(*net.UDPAddr).AddrPort())
		if good := err == nil && answer == servers[0].Name; good != (from == asked) {
			t.Errorf("%s was asked and %s answered: %q, %v", asked.LocalAddr(), from.LocalAddr(), answer, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// relay has a server answer one question that comes to one socket, and passes the answer on from
// another one.
func relay(asked, from *net.UDPConn, server netip.AddrPort) error {
	buf := make([]byte, 512)
	for _, conn := range []*net.UDPConn{asked, from} {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	n, client, err := asked.ReadFromUDPAddrPort(buf)
	if err != nil {
		return err
	}
	if _, err = from.WriteToUDPAddrPort(buf[:n], server); err != nil {
		return err
	}
	if n, _, err = from.ReadFromUDPAddrPort(buf); err != nil {
		return err
	}
	_, err = from.WriteToUDPAddrPort(buf[:n], client)
	return err
}
