package iptables

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"golang.org/x/sys/unix"
)

const (
	nodeDNSPort = 30053 // NodePort of the Service dns
	plenty      = 5 * time.Second
)

// dns is a Service with a VIP and a NodePort, each with its own listener.
func (v variant) dns() []Redirect {
	return []Redirect{
		{Name: "kube-system/dns:dns/VIP", Protocol: UDP, Addr: v.vip(10), Port: 53, To: dnsPort},
		{Name: "kube-system/dns:dns/NODEPORT", Protocol: UDP, Port: nodeDNSPort, To: dnsPort + 1},
	}
}

// serveDatagrams starts a UDP server on all addresses of the node. It answers
// from the address that a datagram came to, with its name and what it was sent.
func (l *lab) serveDatagrams(name string, port uint16) {
	l.t.Helper()
	server := l.ListenUDP(l.wildcard(port))
	l.tellAddress(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		payload, control := make([]byte, 65535), make([]byte, 128)
		for {
			n, nControl, _, from, err := server.ReadMsgUDPAddrPort(payload, control)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				server.WriteMsgUDPAddrPort([]byte(name+" "+string(payload[:n])), sentTo(control[:nControl]), from)
			}
		}
	}()
	l.t.Cleanup(func() {
		server.Close()
		<-done
	})
}

// tellAddress lets a socket tell of each datagram which address it came to.
func (l *lab) tellAddress(c *net.UDPConn) {
	l.t.Helper()
	set := option(unix.SOL_IP, unix.IP_PKTINFO)
	if l.family == IPv6 {
		set = option(unix.SOL_IPV6, unix.IPV6_RECVPKTINFO)
	}
	raw, err := c.SyscallConn()
	if err := errors.Join(err, set("", "", raw)); err != nil {
		l.t.Fatal(err)
	}
}

// sentTo makes of the control message of a datagram that of an answer: from the
// address that it came to, by whatever interface.
func sentTo(control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return nil
	}
	switch data := messages[0].Data; messages[0].Header.Type {
	case unix.IP_PKTINFO:
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(data[8:12])})
	case unix.IPV6_PKTINFO:
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(data[:16])})
	}
	return nil
}

// exchange sends a datagram by a connected socket, which takes no answer but
// from where it has sent to, and closes it.
func exchange(conn net.Conn, text string, timeout time.Duration) (string, error) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", err
	}
	answer := make([]byte, 65535)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

// dialDatagrams connects a UDP socket.
func (l *lab) dialDatagrams(from *netns.NS, dialer *net.Dialer, to netip.AddrPort) net.Conn {
	l.t.Helper()
	conn, err := from.DialWith(context.Background(), dialer, l.network(UDP), to.String())
	if err != nil {
		l.t.Fatal(err)
	}
	return conn
}

// expectAnswered says which server answers, from the address that was asked. A
// large question and its answer travel in fragments.
func (l *lab) expectAnswered(who string, from *netns.NS, to netip.AddrPort, name string) {
	l.t.Helper()
	for _, text := range []string{"small", strings.Repeat("large", 1000)} {
		conn := l.dialDatagrams(from, &net.Dialer{}, to)
		if got, err := exchange(conn, text, plenty); err != nil || got != name+" "+text {
			l.t.Errorf("%s sends %d bytes to %v: answer %.20q, error %v, want %s", who, len(text), to, got, err, name)
		}
	}
}

// expectNoDatagram says that nothing comes back, not even an error.
func (l *lab) expectNoDatagram(who string, from *netns.NS, dialer *net.Dialer, to netip.AddrPort) {
	l.t.Helper()
	got, err := exchange(l.dialDatagrams(from, dialer, to), "hello", patience)
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		l.t.Errorf("%s sends to %v: answer %.20q, error %v, want silence", who, to, got, err)
	}
}

// expectPortUnreachable says that the other end refuses, and that this comes
// back.
func (l *lab) expectPortUnreachable(who string, from *netns.NS, dialer *net.Dialer, to netip.AddrPort) {
	l.t.Helper()
	if got, err := exchange(l.dialDatagrams(from, dialer, to), "hello", plenty); !errors.Is(err, unix.ECONNREFUSED) {
		l.t.Errorf("%s sends to %v: answer %.20q, error %v, want connection refused", who, to, got, err)
	}
}

func TestDatagramsAreAnswered(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		for policy, prepare := range map[string]func(*lab){
			"INPUT accepts": func(*lab) {}, "INPUT drops": (*lab).dropInput,
		} {
			t.Run(policy, func(t *testing.T) {
				l := newLab(t, v)
				bridged, routed := l.AddPod(netns.Bridged, "bridged"), l.AddPod(netns.Routed, "routed")
				l.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
				l.serveDatagrams("vip", dnsPort)
				l.serveDatagrams("nodeport", dnsPort+1)
				prepare(l)
				l.sync(l.rules(l.dns()...))

				for who, from := range map[string]*netns.NS{
					"the node": l.NS, "a bridged pod": bridged.NS, "a routed pod": routed.NS, "a machine outside": l.Client,
				} {
					l.expectAnswered(who, from, netip.AddrPortFrom(l.vip(10), 53), "vip")
					l.expectAnswered(who, from, netip.AddrPortFrom(l.nodeAddr(), nodeDNSPort), "nodeport")
				}
				l.expectAnswered("the node", l.NS, netip.AddrPortFrom(l.loopback(), nodeDNSPort), "nodeport")
				bridge := netip.AddrPortFrom(l.bridge(), nodeDNSPort)
				l.expectAnswered("a bridged pod", bridged.NS, bridge, "nodeport")
				l.expectAnswered("a routed pod", routed.NS, bridge, "nodeport")
				l.expectNoDatagram("a machine outside", l.Client, &net.Dialer{}, netip.AddrPortFrom(l.nodeAddr(), dnsPort))
			})
		}
	})
}

// overUDP are the same frontends of the other protocol.
func overUDP(redirects []Redirect) []Redirect {
	for i := range redirects {
		redirects[i].Protocol = UDP
	}
	return redirects
}

func TestDatagramsOfSomeClients(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		bridged, routed := l.AddPod(netns.Bridged, "bridged"), l.AddPod(netns.Routed, "routed")
		l.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
		l.serveDatagrams("here", herePort)
		l.serveDatagrams("there", therePort)
		l.serveDatagrams("silent", silentPort)
		vip, port := netip.AddrPortFrom(l.vip(20), 53), netip.AddrPortFrom(l.nodeAddr(), nodeDNSPort)
		sources := []netip.Prefix{only(l.clientAddr()), only(l.podAddr(bridged)), only(l.nodeAddr())}
		r := l.rules(overUDP(append(append(pair(vip.Addr(), vip.Port(), sources...), pair(netip.Addr{}, nodeDNSPort)...),
			Redirect{Name: "1", Addr: vip.Addr(), Port: vip.Port(), To: silentPort}))...)
		r.Pods = Pods{[]netip.Prefix{l.bridged()}, []string{"cali+"}}
		l.sync(r)

		l.expectAnswered("the node", l.NS, vip, "here")
		l.expectAnswered("a bridged pod", bridged.NS, vip, "here")
		l.expectAnswered("a routed pod, not in the ranges", routed.NS, vip, "silent")
		l.expectAnswered("a machine outside", l.Client, vip, "there")
		l.expectAnswered("the node", l.NS, port, "here")
		l.expectAnswered("a bridged pod", bridged.NS, port, "here")
		l.expectAnswered("a routed pod", routed.NS, port, "here")
		l.expectAnswered("a machine outside", l.Client, port, "there")
	})
}

// Outside, a machine has the VIP as its address and refuses: that is where a
// socket with our mark gets, and no other.
func TestMarkedDatagramsPass(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		vip := netip.AddrPortFrom(l.vip(10), 53)
		l.own(l.Client, vip.Addr())
		l.serveDatagrams("vip", dnsPort)
		l.sync(l.rules(l.dns()...))
		l.expectAnswered("an unmarked socket", l.NS, vip, "vip")
		l.expectPortUnreachable("a marked socket", l.NS, marked(), vip)
	})
}

// transparentDatagrams sends from an address that the node does not have.
func (l *lab) transparentDatagrams(from netip.AddrPort) *net.Dialer {
	return &net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(from), Control: option(unix.SOL_IP, unix.IP_TRANSPARENT)}
}

func TestDatagramsToAnotherAddressReturn(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.routeReturning()
		l.RouteFromClient(netns.ClusterCIDRv4, netns.ClusterCIDRv6)
		for kind, pod := range map[string]*netns.Pod{
			"bridged": l.AddPod(netns.Bridged, "bridged"), "routed": l.AddPod(netns.Routed, "routed"),
		} {
			echo := pod.ServeUDPEcho(netip.AddrPortFrom(l.podAddr(pod), 7))
			from := l.transparentDatagrams(netip.AddrPortFrom(l.clientAddr(), 0))
			refusing := netip.AddrPortFrom(l.podAddr(pod), 8)

			l.sync(l.rules())
			l.expectNoDatagram("without the mark, a transparent socket", l.NS, from, echo.Addr)
			l.sync(l.returning())
			for _, text := range []string{"small", strings.Repeat("large", 1000)} {
				if got, err := exchange(l.dialDatagrams(l.NS, from, echo.Addr), text, plenty); err != nil || got != text {
					t.Errorf("%d bytes to a %s pod: answer %.20q, error %v", len(text), kind, got, err)
				}
			}
			l.expectPortUnreachable("a transparent socket", l.NS, from, refusing)
			l.expectPortUnreachable("the machine that has the address", l.Client, &net.Dialer{}, refusing)
			l.sync(l.rules())
			l.expectNoDatagram("with the mark gone, a transparent socket", l.NS, from, echo.Addr)
		}
	})
}

// given a socket of the node that is not ours, or not for this flow, when a
// machine and a pod exchange datagrams past us, then these arrive and are not
// marked.
func TestDatagramsOfOthersAreNotMarked(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.routeReturning()
		l.RouteFromClient(netns.ClusterCIDRv4, netns.ClusterCIDRv6)
		pod, other := l.AddPod(netns.Bridged, "pod"), l.AddPod(netns.Routed, "other")
		echo := pod.ServeUDPEcho(netip.AddrPortFrom(l.podAddr(pod), 7))
		client := netip.AddrPortFrom(l.clientAddr(), 5000)
		expect := func(who string, from *netns.NS, dialer *net.Dialer, marked string) {
			t.Helper()
			if got, err := exchange(l.dialDatagrams(from, dialer, echo.Addr), who, plenty); err != nil || got != who || l.marks() != marked {
				t.Errorf("%s: answer %q, error %v, %s marked, want %s", who, got, err, l.marks(), marked)
			}
		}
		transparent, freebind := option(unix.SOL_IP, unix.IP_TRANSPARENT), option(unix.SOL_IP, unix.IP_FREEBIND)
		for name, open := range map[string]func() net.PacketConn{
			"an ordinary server":              func() net.PacketConn { return l.bind(l.wildcard(7), nil) },
			"an ordinary client":              func() net.PacketConn { return l.bind(l.wildcard(5000), nil) },
			"one with an address in advance":  func() net.PacketConn { return l.bind(client, freebind) },
			"a transparent server":            func() net.PacketConn { return l.bind(l.wildcard(7), transparent) },
			"a transparent client":            func() net.PacketConn { return l.bind(l.wildcard(5000), transparent) },
			"one that intercepts requests":    func() net.PacketConn { return l.bind(echo.Addr, transparent) },
			"ours, but for another endpoint":  func() net.PacketConn { return l.connected(client, netip.AddrPortFrom(l.podAddr(other), 7)) },
			"ours, but for another port here": func() net.PacketConn { return l.connected(netip.AddrPortFrom(client.Addr(), 5001), echo.Addr) },
		} {
			l.countMarks()
			socket := open()
			expect("past "+name, l.Client, &net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(client)}, "0")
			socket.Close()
		}
		l.countMarks()
		expect("ours", l.NS, l.transparentDatagrams(client), "1")
	})
}

// countMarks writes the rules anew.
func (l *lab) countMarks() {
	l.t.Helper()
	l.sync(l.rules())
	l.sync(l.returning())
}

// marks is how many datagrams have been marked since then.
func (l *lab) marks() string {
	l.t.Helper()
	for s := range strings.Lines(l.Run(l.command()+"-save", "-c", "-t", mangle)) {
		counters, rule, _ := strings.Cut(s, "] ")
		if strings.HasPrefix(rule, "-A "+returnChain+" -p udp ") {
			packets, _, _ := strings.Cut(strings.TrimPrefix(counters, "["), ":")
			return packets
		}
	}
	l.t.Fatal("no rule marks datagrams")
	return ""
}

// bind opens a socket on the node that is connected to nobody.
func (l *lab) bind(addr netip.AddrPort, control control) (socket net.PacketConn) {
	l.t.Helper()
	var err error
	l.Do(func() {
		socket, err = (&net.ListenConfig{Control: control}).ListenPacket(context.Background(), l.network(UDP), addr.String())
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return socket
}

// connected opens a transparent socket on the node.
func (l *lab) connected(from, to netip.AddrPort) net.PacketConn {
	l.t.Helper()
	return l.dialDatagrams(l.NS, l.transparentDatagrams(from), to).(*net.UDPConn)
}
