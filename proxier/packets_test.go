package proxier

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
)

// datagramsTo is service and slice of a Service with one UDP port.
func datagramsTo(name, vip string, endpoints ...netip.AddrPort) []any {
	protocol := corev1.ProtocolUDP
	objects := with(service(name, vip), endpoints...)
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Service:
			o.Spec.Ports[0].Protocol = protocol
		case *discoveryv1.EndpointSlice:
			o.Ports[0].Protocol = &protocol
		}
	}
	return objects
}

// packetEcho answers every datagram with its own address.
func packetEcho(t testing.TB) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			_, from, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			conn.WriteToUDPAddrPort([]byte(conn.LocalAddr().String()), from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

// ask sends a datagram to addr from a new port and returns the answer.
func ask(addr string, patience time.Duration) (string, error) {
	conn, err := net.Dial("udp4", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return askAgain(conn, patience)
}

func askAgain(conn net.Conn, patience time.Duration) (string, error) {
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("who?")); err != nil {
		return "", err
	}
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

// answered waits until an address answers.
func (s *scene) answered(addr string) {
	s.t.Helper()
	s.eventually(addr+" answers", func() error { _, err := ask(addr, 100*time.Millisecond); return err })
}

func (s *scene) dropped(cause observe.DropCause) (n int) {
	families, err := s.proxier.cfg.Registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "usher_udp_drops_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "cause" && l.GetValue() == cause.String() {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

func TestDatagramsAreRelayedAndRecorded(t *testing.T) {
	s := newScene(t, func(c *Config) { c.Service.UDP.Stream = time.Second })
	echo := packetEcho(t)
	s.set(datagramsTo("dns", vip, echo)...)
	s.answered(vip)
	conn, err := net.Dial("udp4", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		if got, err := askAgain(conn, patience); got != echo.String() {
			t.Fatalf("%q answers, %v", got, err)
		}
	}
	client := netip.MustParseAddrPort(conn.LocalAddr().String())
	for {
		r := s.record()
		if r.Client != client {
			continue // one of those that waited for the Service
		}
		if r.Protocol != "udp" || r.Service != "dns" || r.VIP.String() != vip || r.VIPKind.String() != "cluster" || r.Backend().Addr != echo ||
			r.DatagramsIn != 3 || r.DatagramsOut != 3 || r.BytesIn != 12 || r.FirstReply <= 0 || r.LocalPort == 0 || r.Reason != observe.Idle {
			t.Errorf("record %+v", r)
		}
		return
	}
}

func TestDatagramsToOneNumberOfTwoProtocols(t *testing.T) {
	s := newScene(t)
	tcpOnly, udpEcho := newBackend(t), packetEcho(t)
	both := service("both", vip)
	both.Spec.Ports[0].Name = "tcp"
	both.Spec.Ports = append(both.Spec.Ports, corev1.ServicePort{Name: "udp", Port: both.Spec.Ports[0].Port, Protocol: corev1.ProtocolUDP})
	named := func(o any, name string, protocol corev1.Protocol) *discoveryv1.EndpointSlice {
		sl := o.(*discoveryv1.EndpointSlice)
		sl.Name, sl.Ports[0].Name, sl.Ports[0].Protocol = "both-"+name, &name, &protocol
		return sl
	}
	s.set(both, named(slice("both", tcpOnly.addr), "tcp", corev1.ProtocolTCP), named(slice("both", udpEcho), "udp", corev1.ProtocolUDP))
	s.answered(vip)
	if got, err := ask(vip, patience); got != udpEcho.String() {
		t.Errorf("UDP: %q, %v", got, err)
	}
	if got, err := get(vip); got != tcpOnly.addr.String() {
		t.Errorf("TCP: %q, %v", got, err)
	}
}

func TestDatagramsWithoutEndpointsAreRefused(t *testing.T) {
	s := newScene(t)
	echo := packetEcho(t)
	conn, err := net.Dial("udp4", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		s.set(datagramsTo("dns", vip, echo)...)
		s.eventually("an answer", func() error { _, err := askAgain(conn, 100*time.Millisecond); return err })
		s.set(datagramsTo("dns", vip)...)
		s.eventually("a refusal", func() error {
			if _, err := askAgain(conn, 100*time.Millisecond); !errors.Is(err, syscall.ECONNREFUSED) {
				return fmt.Errorf("got %v", err)
			}
			return nil
		})
	}
}

func TestDatagramsFromOutsideOfTheSourceRangesGetSilence(t *testing.T) {
	s := newScene(t)
	lb := testVIP(2)
	set := func(ranges ...string) {
		objects := datagramsTo("dns", vip, packetEcho(t))
		web := objects[0].(*corev1.Service)
		web.Spec.Type, web.Spec.LoadBalancerSourceRanges = corev1.ServiceTypeLoadBalancer, ranges
		web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: netip.MustParseAddrPort(lb).Addr().String()}}
		s.set(objects...)
	}
	set("127.0.0.0/8")
	s.answered(lb)
	set("10.0.0.0/8")
	s.eventually("silence", func() error {
		if _, err := ask(lb, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
	if _, err := ask(vip, patience); err != nil {
		t.Errorf("the ClusterIP: %v", err)
	}
}

// What has an address of ours as its source would come back as often as it is
// answered.
func TestDatagramsFromOwnAddressesAreDropped(t *testing.T) {
	s := newScene(t)
	s.set(datagramsTo("dns", vip, packetEcho(t))...)
	s.answered(vip)
	conn, err := net.Dial("udp4", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := netip.MustParseAddrPort(conn.LocalAddr().String())
	s.proxier.data.served.Store(&served{claims: &claims{by: map[claim]*wish{{client.Addr(), client.Port(), IPv4, "tcp"}: {}}}})
	if _, err := askAgain(conn, patience); err != nil {
		t.Errorf("an address that is ours for TCP: %v", err)
	}
	other, err := net.Dial("udp4", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	client = netip.MustParseAddrPort(other.LocalAddr().String())
	s.proxier.data.served.Store(&served{claims: &claims{by: map[claim]*wish{{client.Addr(), client.Port(), IPv4, "udp"}: {}}}})
	other.Write([]byte("who?"))
	s.eventually("a dropped datagram", func() error {
		if n := s.dropped(observe.DropLoop); n != 1 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// silly panics when it is asked.
type silly struct{}

func (silly) Picker([]balancer.Endpoint) balancer.Picker         { return silly{} }
func (silly) Pick(balancer.Request) (p balancer.Pick, err error) { panic("silly") }

func TestPanicDropsOneDatagram(t *testing.T) {
	s := newScene(t, func(c *Config) {
		c.Service.Balancer, c.Policies = "silly", map[string]func() balancer.Policy{"silly": func() balancer.Policy { return silly{} }}
	})
	s.set(datagramsTo("dns", vip, packetEcho(t))...)
	s.eventually("dropped datagrams", func() error {
		ask(vip, time.Millisecond)
		if n := s.dropped(observe.DropError); n < 3 {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	})
}

func TestSessionLimit(t *testing.T) {
	sessions := 0
	c := newConnections(0, func() int { return sessions })
	c.free.Store(6000)
	half := sessionLimit(0, c)
	if half != min(3000, localPorts()/2) {
		t.Errorf("%d sessions with 6000 files, want half", half)
	}
	if n := sessionLimit(5000, c); n != 5000 {
		t.Errorf("%d sessions, 5000 were asked for", n)
	}
	if n := sessionLimit(9000, c); n != 6000 {
		t.Errorf("%d sessions with 6000 files", n)
	}
	for range 3000 / limit.FilesPerConnection {
		c.add(&connection{})
	}
	if n := sessionLimit(5000, c); n != 3000 {
		t.Errorf("%d sessions beside connections with 3000 files", n)
	}
	if n := c.room().Connections; n != limit.RoomIn(6000).Connections {
		t.Errorf("%d connections, want 1000", n)
	}
	sessions = 3000
	if n := c.room().Connections; n != limit.RoomIn(3000).Connections {
		t.Errorf("%d connections beside 3000 sessions, want 500", n)
	}
}
