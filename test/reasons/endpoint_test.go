package reasons

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/observe"
)

const (
	backendReset = "backend_reset backend data ECONNRESET none rst rst none"
	resetEarly   = "backend_reset_early backend connect ECONNRESET none none rst none"
	backendGone  = "backend_gone backend data ETIMEDOUT none timeout rst none"
)

// Endpoints that were connected to.
var endpointScenarios = []scenario{
	{
		reason: observe.BackendReset, how: "RST after an answer", want: one(backendReset),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(func(c *net.TCPConn) { io.CopyN(c, c, 4); crash(c) }))...)
			c := l.client()
			io.WriteString(c, "ping")
			io.ReadAll(c)
			return l.record()
		},
		also: func(r *observe.Record) error {
			if r.BytesOut != 4 {
				return fmt.Errorf("%d bytes out", r.BytesOut)
			}
			return nil
		},
	},
	{
		reason: observe.BackendReset, how: "accepts and sends an RST at once", attempts: "ok()|backend_reset_early(ECONNRESET)",
		// Whether the RST comes before anybody has seen the connection is up to the kernel.
		want: []string{backendReset, resetEarly},
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(crash))...)
			return l.turnedAway()
		},
	},
	{
		reason: observe.BackendReset, how: "closes with data unread, which the kernel makes an RST", want: one(backendReset),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(func(c *net.TCPConn) { c.Read(make([]byte, 1)) }))...)
			c := l.client()
			io.WriteString(c, "two")
			io.ReadAll(c)
			return l.record()
		},
	},
	{
		reason: observe.BackendReset, how: "RST after the client's FIN", want: one("backend_reset backend data ECONNRESET fin rst rst fin"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(func(c *net.TCPConn) { io.ReadAll(c); crash(c) }))...)
			c := l.client()
			c.CloseWrite()
			io.ReadAll(c)
			return l.record()
		},
		also: func(r *observe.Record) error {
			if r.ClientCloseAt < 0 || r.ClientCloseAt > r.BackendCloseAt {
				return fmt.Errorf("the client at %s, the endpoint at %s", r.ClientCloseAt, r.BackendCloseAt)
			}
			return nil
		},
	},
	func() scenario {
		var got int
		var end error
		return scenario{
			reason: observe.BackendReset, how: "RST with data still queued to a slow client", want: one(backendReset),
			run: func(l *lab) *observe.Record {
				ended := make(chan struct{})
				l.serve(tcpService(), 1, ready(l.endpoint(func(c *net.TCPConn) {
					c.Read(make([]byte, 1))
					c.Write(make([]byte, 1<<18))
					crash(c)
					c.Close()
					close(ended)
				}))...)
				c := l.client()
				c.SetReadBuffer(1 << 15)
				io.WriteString(c, "?")
				<-ended
				var all []byte
				all, end = io.ReadAll(c)
				got = len(all)
				return l.record()
			},
			also: func(r *observe.Record) error {
				if got == 0 || int64(got) != r.BytesOut || r.Sockets.UnsentClient != 0 || !errors.Is(end, syscall.ECONNRESET) {
					return fmt.Errorf("the client has got %d of %d bytes, and %v; sockets %+v", got, r.BytesOut, end, r.Sockets)
				}
				return nil
			},
		}
	}(),
	{
		reason: observe.BackendReset, how: "RST before an answer, and no other endpoint for a replay", want: []string{backendReset, resetEarly}, attempts: "backend_reset_early(ECONNRESET)",
		run: func(l *lab) *observe.Record {
			l.serve(tcpService("retry-on=reset-early"), 1, ready(l.endpoint(crash))...)
			return l.turnedAway()
		},
	},
	{
		reason: observe.BackendGone, how: "it acknowledges nothing (tcp-user-timeout)", want: one(backendGone),
		run: func(l *lab) *observe.Record {
			e := l.endpoint(echo)
			l.serve(tcpService("tcp-user-timeout=1s", "tcp-keepalive=1s,1s,1"), 1, ready(e)...)
			c := l.talking()
			l.cut(e.Port())
			io.WriteString(c, "lost")
			return l.record()
		},
		also: func(r *observe.Record) error {
			if s := r.Sockets; s == nil || s.UnsentBackend != 4 || s.Backend == nil || s.Backend.State != "CLOSED" {
				return fmt.Errorf("sockets %+v", s)
			}
			return nil
		},
	},
	{
		reason: observe.BackendGone, how: "it is silent and its host is gone (tcp-keepalive)", want: one(backendGone),
		run: func(l *lab) *observe.Record {
			e := l.endpoint(echo)
			l.serve(tcpService("tcp-keepalive=1s,1s,1"), 1, ready(e)...)
			l.talking()
			l.cut(e.Port())
			return l.record()
		},
	},
}

// Endpoints that could not be connected to, or were left for another one.
var attemptScenarios = []scenario{
	{
		reason: observe.BackendRefused, how: "nobody listens", attempts: "backend_refused(ECONNREFUSED)",
		want: one("backend_refused backend connect ECONNREFUSED none none rst none"),
		run:  func(l *lab) *observe.Record { return l.refused(l.free("127.0.0.1").String()) },
	},
	{
		reason: observe.BackendUnreachable, how: "no route", want: one(unreachable("ENETUNREACH")),
		run: func(l *lab) *observe.Record { return l.refused("10.78.0.1:80") },
	},
	{
		reason: observe.BackendUnreachable, how: "an unreachable route", want: one(unreachable("EHOSTUNREACH")),
		run: func(l *lab) *observe.Record { return l.routed("unreachable") },
	},
	{
		reason: observe.BackendUnreachable, how: "a prohibit route", want: one(unreachable("EACCES")),
		run: func(l *lab) *observe.Record { return l.routed("prohibit") },
	},
	{
		reason: observe.BackendUnreachable, how: "a blackhole route", want: one(unreachable("EINVAL")),
		run: func(l *lab) *observe.Record { return l.routed("blackhole") },
	},
	{
		reason: observe.BackendUnreachable, how: "ICMP: administratively prohibited", want: one(unreachable("EHOSTUNREACH")),
		run: func(l *lab) *observe.Record {
			e := l.free("127.0.0.1")
			l.rule(fmt.Sprintf("-p tcp --dport %d -j REJECT --reject-with icmp-admin-prohibited", e.Port()))
			return l.refused(e.String())
		},
	},
	{
		reason: observe.ConnectTimeout, how: "SYNs vanish, until connect-timeout", attempts: "connect_timeout()",
		want: one("connect_timeout backend connect - none none rst none"),
		run:  func(l *lab) *observe.Record { return l.refused(l.silent().String(), "connect-timeout=200ms") },
	},
	{
		reason: observe.ConnectTimeout, how: "SYNs vanish, until the kernel gives up", attempts: "connect_timeout(ETIMEDOUT)",
		want: one("connect_timeout backend connect ETIMEDOUT none none rst none"),
		run: func(l *lab) *observe.Record {
			l.sysctl("net/ipv4/tcp_syn_linear_timeouts", "0")
			l.sysctl("net/ipv4/tcp_syn_retries", "1")
			return l.refused(l.silent().String())
		},
	},
	{
		reason: observe.ConnectTimeout, how: "its backlog is full", attempts: "connect_timeout()",
		want: one("connect_timeout backend connect - none none rst none"),
		run: func(l *lab) *observe.Record {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			l.must(err)
			l.Cleanup(func() { unix.Close(fd) })
			e := l.free("127.0.0.1")
			l.must(errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: int(e.Port()), Addr: e.Addr().As4()}), unix.Listen(fd, 0)))
			c, err := net.Dial("tcp", e.String())
			l.must(err)
			l.Cleanup(func() { reset(c) })
			return l.refused(e.String(), "connect-timeout=300ms")
		},
	},
	{
		reason: observe.RetriesExhausted, how: "one refuses, one is silent, one has no route",
		want:     one("retries_exhausted backend connect - none none rst none"),
		attempts: "backend_unreachable(ENETUNREACH) backend_refused(ECONNREFUSED) connect_timeout()",
		run: func(l *lab) *observe.Record {
			away, refuses, silent := netip.MustParseAddrPort("10.78.0.1:80"), l.free("127.0.0.1"), l.silentAt("127.0.0.2")
			return l.refusedBy(tcpService("connect-timeout=200ms"), ready(away, refuses, silent)...)
		},
	},
	{
		reason: observe.BackendResetEarly, how: "RST before an answer, replayed to another one", want: one(well), attempts: "backend_reset_early(ECONNRESET)|backend_reset_early(EPIPE) ok()",
		run: func(l *lab) *observe.Record { return l.replayed(crash) },
	},
	{
		reason: observe.BackendResetEarly, how: "FIN before an answer, replayed to another one", want: one(well), attempts: "backend_reset_early() ok()",
		run: func(l *lab) *observe.Record { return l.replayed(func(c *net.TCPConn) { c.Read(make([]byte, 4)) }) },
	},
	{
		reason: observe.Superseded, how: "another one answers while it is silent (hedge)", want: one(well), attempts: "superseded() ok()",
		run: func(l *lab) *observe.Record {
			silent, echoes := l.silent(), l.endpointAt("127.0.0.2:0", echo)
			l.serve(tcpService("hedge=100ms"), 2, ready(silent, echoes)...)
			return l.good()
		},
		also: func(r *observe.Record) error {
			if !r.Attempts[1].Hedged || r.Attempts[0].Hedged {
				return fmt.Errorf("attempts %+v", r.Attempts)
			}
			return nil
		},
	},
	{
		reason: observe.Abandoned, how: "usher stops while it is silent", attempts: "abandoned()",
		want: one("shutdown proxy drain - none none rst none"), change: hurries,
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.silent())...)
			c := l.client()
			l.becomes(1, "usher_connections_active", "")
			l.stop()
			return l.recordOf(c)
		},
	},
}

// hurries has usher wait for nobody when it stops.
func hurries(c *proxier.Config) { c.DrainTimeout = time.Millisecond }

func unreachable(errno string) string {
	return "backend_unreachable backend connect " + errno + " none none rst none"
}

// refused is the record of a client that gets no endpoint, as there is only this one.
func (l *lab) refused(endpoint string, wishes ...string) *observe.Record {
	l.Helper()
	return l.refusedBy(tcpService(wishes...), ready(netip.MustParseAddrPort(endpoint))...)
}

func (l *lab) refusedBy(s *corev1.Service, endpoints ...end) *observe.Record {
	l.Helper()
	l.serve(s, len(endpoints), endpoints...)
	return l.turnedAway()
}

// turnedAway is the record of a client that hears nothing but a reset, which may come as
// soon as it is connected.
func (l *lab) turnedAway() *observe.Record {
	l.Helper()
	return l.turnedAwayFrom(vip, net.Dialer{})
}

func (l *lab) turnedAwayFrom(addr string, d net.Dialer) *observe.Record {
	l.Helper()
	d.Timeout = patience
	c, err := d.Dial("tcp", addr)
	if err == nil {
		l.Cleanup(func() { reset(c) })
		c.SetDeadline(time.Now().Add(patience))
		_, err = io.ReadAll(c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		l.Errorf("the client hears %v, want a reset", err)
	}
	return l.record()
}

// routed is the record of a client whose endpoint has a route that leads nowhere.
func (l *lab) routed(kind string) *observe.Record {
	l.Helper()
	l.run("ip route add "+kind+" 10.77.0.1", "ip route del "+kind+" 10.77.0.1")
	return l.refused("10.77.0.1:80")
}

// replayed is the record of a client whose second endpoint echoes.
func (l *lab) replayed(first func(*net.TCPConn)) *observe.Record {
	l.Helper()
	l.serve(tcpService("retry-on=reset-early"), 2, ready(l.endpoint(first), l.endpointAt("127.0.0.2:0", echo))...)
	return l.good()
}

// good is the record of a client that gets its echo, and closes.
func (l *lab) good() *observe.Record {
	l.Helper()
	c := l.talking()
	c.CloseWrite()
	io.ReadAll(c)
	return l.recordOf(c)
}

// silent is an address that answers no SYN.
func (l *lab) silent() netip.AddrPort {
	l.Helper()
	return l.silentAt("127.0.0.1")
}

func (l *lab) silentAt(addr string) netip.AddrPort {
	l.Helper()
	e := l.free(addr)
	l.rule(fmt.Sprintf("-p tcp -d %s --dport %d -j DROP", addr, e.Port()))
	return e
}
