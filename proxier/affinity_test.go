package proxier

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/observe"
)

// sticky is a Service with session affinity.
func sticky(name, vip string, seconds int32) *corev1.Service {
	s := service(name, vip)
	s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	return s
}

// ask connects and returns the backend that the record tells, and how affinity
// led there.
func (s *scene) ask(from, to string) (netip.AddrPort, string) {
	s.t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", to)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 100)); err != nil {
		s.t.Fatal(err)
	}
	conn.Close()
	r := s.record()
	return r.Backend().Addr, r.Affinity.String()
}

// staysWith asks a few times, and returns the only backend that answered.
func (s *scene) staysWith(from, to string) netip.AddrPort {
	s.t.Helper()
	first, _ := s.ask(from, to)
	for range 5 {
		if again, affinity := s.ask(from, to); again != first || affinity != "hit" {
			s.t.Fatalf("%s got %s (%s) after %s", from, again, affinity, first)
		}
	}
	return first
}

func TestAffinityKeepsAClientWithItsEndpoint(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	s.set(with(sticky("web", vip, 100), a.addr, b.addr)...)
	s.served(vip)
	one, two := s.staysWith("127.0.3.1", vip), s.staysWith("127.0.3.2", vip)
	if one == two {
		t.Errorf("two new clients took one turn: both have %s", one)
	}

	// The endpoint leaves: another one, for good.
	left := a.addr
	if one == a.addr {
		left = b.addr
	}
	s.set(with(sticky("web", vip, 100), left)...)
	s.eventually("the endpoint is gone", func() error {
		if got, _ := s.ask("127.0.3.1", vip); got != left {
			return fmt.Errorf("got %s", got)
		}
		return nil
	})
	s.set(with(sticky("web", vip, 100), a.addr, b.addr)...)
	fresh := 100
	s.eventually("both are there", func() error {
		fresh++
		if got, _ := s.ask(fmt.Sprintf("127.0.3.%d", fresh), vip); got == left {
			return fmt.Errorf("still only %s", left)
		}
		return nil
	})
	if got, affinity := s.ask("127.0.3.1", vip); got != left || affinity != "hit" {
		t.Errorf("the client went back to %s (%s)", got, affinity)
	}
}

func TestAffineEndpointThatCannotBeConnectedToIsLeft(t *testing.T) {
	s := newScene(t)
	a, dead := newBackend(t), freeAddr(t)
	s.set(with(sticky("web", vip, 100), a.addr, dead)...)
	s.eventually("served", func() error { _, err := get(vip); return err })
	s.record()
	for n := range 4 { // some of them begin with the dead one
		if got := s.staysWith(fmt.Sprintf("127.0.4.%d", n), vip); got != a.addr {
			t.Errorf("served by %s", got)
		}
	}
}

func TestAffinityIsToggledAndItsTimeoutChanged(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	s.set(with(sticky("web", vip, 100), a.addr, b.addr)...)
	s.served(vip)
	s.staysWith("127.0.5.1", vip)
	held, err := net.Dial("tcp", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()

	s.set(with(service("web", vip), a.addr, b.addr)...)
	s.eventually("without affinity clients are spread", func() error {
		first, _ := s.ask("127.0.5.1", vip)
		if second, affinity := s.ask("127.0.5.1", vip); second == first || affinity != "" {
			return fmt.Errorf("%s twice (%s)", first, affinity)
		}
		return nil
	})
	s.set(with(sticky("web", vip, 1), a.addr, b.addr)...)
	s.eventually("with affinity again they begin anew", func() error {
		if _, affinity := s.ask("127.0.5.1", vip); affinity != "new" {
			return fmt.Errorf("affinity %q", affinity)
		}
		return nil
	})
	if _, affinity := s.ask("127.0.5.1", vip); affinity != "hit" {
		t.Errorf("and do not stay: affinity %q", affinity)
	}
	s.eventually("until the timeout of now", func() error {
		time.Sleep(1100 * time.Millisecond) // the timeout itself
		if _, affinity := s.ask("127.0.5.1", vip); affinity != "new" {
			return fmt.Errorf("affinity %q", affinity)
		}
		return nil
	})
}

// Two ports of a Service remember their clients each for itself, and so do
// Services.
func TestAffinityIsPerPort(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	other := testVIP(7)
	s.set(append(with(sticky("web", vip, 100), a.addr, b.addr), with(sticky("other", other, 100), a.addr, b.addr)...)...)
	s.served(vip)
	s.served(other)
	for _, to := range []string{vip, other} {
		if _, affinity := s.ask("127.0.6.1", to); affinity != "new" {
			t.Errorf("%s: first connection is %q", to, affinity)
		}
		s.staysWith("127.0.6.1", to)
	}
}

func TestProxyProtocolHeaderComesFirst(t *testing.T) {
	for version, want := range map[string]string{"v1": "PROXY TCP4 127.0.7.1 %s %d 8080\r\nhello", "v2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"} {
		t.Run(version, func(t *testing.T) {
			s := newScene(t)
			got := make(chan string, 1)
			backend := serveTCP(t, func(c net.Conn) {
				buf := make([]byte, 200)
				n, _ := c.Read(buf)
				if more, _ := c.Read(buf[n:]); more > 0 {
					n += more
				}
				got <- string(buf[:n])
			})
			web := service("web", vip)
			web.Annotations = map[string]string{"usher-proxy.io/proxy-protocol": version}
			s.set(with(web, backend)...)
			s.eventually("served", func() error {
				c, err := net.Dial("tcp", vip)
				if err == nil {
					c.Close()
				}
				return err
			})
			<-got
			s.record()
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 7, 1)}}
			client, err := d.Dial("tcp", vip)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			client.Write([]byte("hello"))
			client.(*net.TCPConn).CloseWrite()
			header := <-got
			if version == "v1" {
				want = fmt.Sprintf(want, netip.MustParseAddrPort(vip).Addr(), addrPort(client.LocalAddr()).Port())
			} else {
				src := addrPort(client.LocalAddr())
				port := src.Port()
				ip := netip.MustParseAddrPort(vip).Addr().As4()
				want += "\x7f\x00\x07\x01" + string(ip[:]) + string([]byte{byte(port >> 8), byte(port), 8080 >> 8, 8080 & 255}) + "hello"
			}
			if header != want {
				t.Errorf("got %q, want %q", header, want)
			}
			if r := s.record(); r.Reason != observe.OK || r.BytesIn != 5 {
				t.Errorf("record %s, %d bytes in", r.Reason, r.BytesIn)
			}
		})
	}
}
