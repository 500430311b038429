package transparent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/test/netns"
)

// returning writes the rules that usher has: datagrams and ICMP are marked.
func (l *lab) returning() {
	l.t.Helper()
	var err error
	l.Do(func() {
		var table *iptables.Table
		if table, err = iptables.New(l.family, iptables.Command(l.command())); err == nil {
			err = table.Sync(context.Background(), iptables.Rules{Returning: mark})
		}
	})
	l.must(err)
}

// dialDatagrams connects a UDP socket from the client's address. Port 0 lets
// connect choose.
func (l *lab) dialDatagrams(client netip.AddrPort, endpoint netip.AddrPort) (net.Conn, error) {
	d := &net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(client), Control: prepare}
	return l.DialWith(context.Background(), d, "udp", endpoint.String())
}

// mustDial is dialDatagrams with a port that connect chooses.
func (l *lab) mustDial(client netip.Addr, endpoint netip.AddrPort) net.Conn {
	l.t.Helper()
	conn, err := l.dialDatagrams(netip.AddrPortFrom(client, 0), endpoint)
	l.must(err)
	l.t.Cleanup(func() { conn.Close() })
	return conn
}

// exchange sends one datagram and returns the next one that comes.
func exchange(conn net.Conn, text string, timeout time.Duration) (string, error) {
	conn.SetDeadline(time.Now().Add(timeout))
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", err
	}
	answer := make([]byte, 65535)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

func isTimeout(err error) bool {
	timeout := net.Error(nil)
	return errors.As(err, &timeout) && timeout.Timeout()
}

// mustNotAnswer forces a datagram that nobody will be heard to answer.
func (l *lab) mustNotAnswer(client netip.Addr, endpoint netip.AddrPort) {
	l.t.Helper()
	conn := l.mustDial(client, endpoint)
	defer conn.Close()
	if answer, err := exchange(conn, "hello", hopeless); !isTimeout(err) {
		l.t.Errorf("send to %s from %s: answer %q, %v; want a timeout", endpoint, client, answer, err)
	}
}

// serveSeen answers datagrams, however large, with the address that they are
// seen to come from.
func (l *lab) serveSeen(p *netns.Pod) netip.AddrPort {
	l.t.Helper()
	addr := netip.AddrPortFrom(l.pod(p), 9)
	server := p.ListenUDP(addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 100)
		for {
			_, from, err := server.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			server.WriteToUDPAddrPort([]byte(from.Addr().Unmap().String()), from)
		}
	}()
	l.t.Cleanup(func() {
		server.Close()
		<-done
	})
	return addr
}

// mustBeSeen says as whom an endpoint sees a client's datagrams.
func (l *lab) mustBeSeen(what string, client netip.Addr, endpoint netip.AddrPort, want netip.Addr) {
	l.t.Helper()
	conn := l.mustDial(client, endpoint)
	defer conn.Close()
	if seen, err := exchange(conn, "who am I?", patience); err != nil || seen != want.String() {
		l.t.Fatalf("%s: %s sees %s as %q, %v; want %s", what, endpoint, client, seen, err, want)
	}
}

// given a node, when datagrams are sent to endpoints from the address of a
// client whose replies the node routes, then the endpoints see that address and
// their answers come back, whatever the reverse path filter is, and even where
// it honours marks.
func TestDatagramsTravel(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.returning()
		l.everyJourney(v, l.serveSeen, func(name string, client netip.Addr, endpoint netip.AddrPort) {
			l.mustBeSeen(name, client, endpoint, client)
		})
	})
}

// given large datagrams, when they and their answers travel in fragments, then
// they arrive complete: the node puts them together before it asks for sockets.
func TestFragmentsTravel(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.returning()
		client, endpoint := l.AddPod(netns.Bridged, "client"), l.AddPod(netns.Routed, "endpoint")
		echo := endpoint.ServeUDPEcho(netip.AddrPortFrom(v.pod(endpoint), 7))
		large := strings.Repeat("large", 10_000)
		if got, err := exchange(l.mustDial(v.pod(client), echo.Addr), large, patience); err != nil || got != large {
			t.Errorf("sent %d bytes, received %d, %v", len(large), len(got), err)
		}
	})
}

// given rules that masquerade, or filter by reverse path with the mark, then
// answers come back as those of TCP do.
func TestDatagramsMeetRulesOfOthers(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.returning()
		other := l.AddNode("other")
		remote, client := other.AddPod(netns.Bridged, "remote"), l.AddPod(netns.Bridged, "client")
		endpoint := l.serveSeen(remote)
		l.Run(v.command(), "-t", "mangle", "-A", "PREROUTING", "-m", "rpfilter", "--validmark", "--invert", "-j", "DROP")
		l.mustBeSeen("filtered by reverse path", v.pod(client), endpoint, v.pod(client))
		l.Run(v.command(), "-t", "nat", "-A", "POSTROUTING", "-s", v.pod(client).String(), "-o", "eth0", "-j", "MASQUERADE")
		l.mustBeSeen("masqueraded", v.pod(client), endpoint, v.node())
	})
}

// given an endpoint where nobody listens, or a router that refuses on its
// behalf, when a datagram is sent, then the socket hears of it.
func TestRefusedDatagramsAreTold(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		other := l.AddNode("other")
		remote, client := other.AddPod(netns.Routed, "remote"), l.AddPod(netns.Bridged, "client")
		closed := netip.AddrPortFrom(v.pod(remote), 8)
		l.mustNotAnswer(v.pod(client), closed)
		l.returning()
		for _, refuses := range []string{"endpoint", "router"} {
			if refuses == "router" {
				other.Run(v.command(), "-A", "FORWARD", "-p", "udp", "-j", "REJECT") // by "port unreachable"
			}
			if answer, err := exchange(l.mustDial(v.pod(client), closed), "hello", patience); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("the %s refuses: answer %q, %v; want ECONNREFUSED", refuses, answer, err)
			}
		}
	})
}

// given a path on which packets must be smaller than on the links of both ends,
// when a datagram is too large for it, then it is lost, the sender is told
// (EMSGSIZE), and those after it arrive in fragments.
func TestDatagramsLearnThePathMTU(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.returning()
		other := l.AddNode("other")
		remote, client := other.AddPod(netns.Routed, "remote"), l.AddPod(netns.Bridged, "client")
		other.Run("ip", "link", "set", remote.HostLink, "mtu", "1300")
		conn := l.mustDial(v.pod(client), l.serveSeen(remote))
		large := strings.Repeat("l", 1400)
		if seen, err := exchange(conn, large, patience); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("the first one: answer %q, %v; want EMSGSIZE", seen, err)
		}
		if seen, err := exchange(conn, large, patience); err != nil || seen != v.pod(client).String() {
			t.Errorf("the second one: answer %q, %v", seen, err)
		}
	})
}

// given a socket that is bound to a client's address, when it is not connected
// yet, then it has no port at which it could be taken for the client.
func TestOnlyConnectChoosesThePort(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		var conn net.PacketConn
		var err error
		l.Do(func() {
			list := net.ListenConfig{Control: prepare}
			conn, err = list.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(v.client(), 0).String())
		})
		l.must(err)
		defer conn.Close()
		if addr := conn.LocalAddr().(*net.UDPAddr).AddrPort(); addr.Addr() != v.client() || addr.Port() != 0 {
			t.Errorf("bound to %s, want %s without a port", addr, v.client())
		}
	})
}

// given a node with four ports, when a client has four sockets, then there is
// none left for it, whatever the endpoint. Another client has its own four.
func TestPortsOfDatagrams(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.returning()
		client, second, endpoint := l.AddPod(netns.Bridged, "client"), l.AddPod(netns.Bridged, "second"), l.AddPod(netns.Routed, "endpoint")
		l.Sysctl("net/ipv4/ip_local_port_range", "40000 40003")
		echo := endpoint.ServeUDPEcho(netip.AddrPortFrom(v.pod(endpoint), 7))
		for _, c := range []*netns.Pod{client, second} {
			for i := range 4 {
				if got, err := exchange(l.mustDial(v.pod(c), echo.Addr), "hello", patience); err != nil {
					t.Errorf("%s, socket %d: answer %q, %v", c.Name, i, got, err)
				}
			}
		}
		conn, err := l.dialDatagrams(netip.AddrPortFrom(v.pod(client), 0), netip.AddrPortFrom(v.pod(endpoint), 8))
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, unix.EAGAIN) {
			t.Errorf("one socket too many: %v, want EAGAIN", err)
		}
	})
}

// given a client that exchanges datagrams with an endpoint past usher, when
// usher happens to take the same port for it, then usher gets the answers until
// it closes the socket. As for TCP, this says what there is to expect; here the
// client's own flow survives it.
func TestDatagramPortOfTheClientItself(t *testing.T) {
	eachFamily(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.returning()
		client, endpoint := l.AddPod(netns.Bridged, "client"), l.AddPod(netns.Routed, "endpoint")
		echo := endpoint.ServeUDPEcho(netip.AddrPortFrom(v.pod(endpoint), 7))
		from := netip.AddrPortFrom(v.pod(client), 40000)
		direct, err := client.DialWith(context.Background(), &net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(from)}, "udp", echo.Addr.String())
		l.must(err)
		defer direct.Close()
		expect := func(when string, conn net.Conn, want string) {
			t.Helper()
			if got, err := exchange(conn, want, patience); err != nil || got != want {
				t.Errorf("%s: answer %q, %v; want %q", when, got, err, want)
			}
		}
		expect("before", direct, "direct")
		ours, err := l.dialDatagrams(from, echo.Addr)
		l.must(err)
		expect("usher has the port", ours, "ours")
		if got, err := exchange(direct, "direct, meanwhile", hopeless); !isTimeout(err) {
			t.Errorf("meanwhile: answer %q, %v; want a timeout", got, err)
		}
		ours.Close()
		expect("after", direct, "direct again")
	})
}
