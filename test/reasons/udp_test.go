package reasons

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/observe"
)

// UDP sessions.
var udpScenarios = []scenario{
	{
		reason: observe.Idle, how: "UDP: no more datagrams", want: one(session("idle proxy data")), change: shortSessions,
		run: func(l *lab) *observe.Record {
			l.serve(udpService(), 1, ready(l.echoes())...)
			l.asking()
			return l.record()
		},
	},
	{
		reason: observe.Evicted, how: "UDP: another client needs the room", want: one(session("evicted proxy data")),
		change: func(c *proxier.Config) { c.Service.UDP.Sessions = 1 },
		run: func(l *lab) *observe.Record {
			l.serve(udpService(), 1, ready(l.echoes())...)
			first := l.asking()
			l.asking()
			return l.recordOf(first)
		},
	},
	{
		reason: observe.BackendRefused, how: "UDP: nobody listens, ICMP port unreachable", want: one("backend_refused backend data ECONNREFUSED none none none none"),
		change: shortSessions,
		run: func(l *lab) *observe.Record {
			l.serve(udpService(), 1, ready(l.free("127.0.0.1"))...)
			return l.recordWhile(l.asker())
		},
	},
	{
		reason: observe.EndpointRemoved, how: "UDP: the endpoint leaves, the client stays", want: one(session("endpoint_removed proxy drain")),
		change: shortSessions,
		run: func(l *lab) *observe.Record {
			l.serve(udpService(), 1, ready(l.echoes())...)
			c := l.asking()
			l.serve(udpService(), 1, ready(l.echoes())...)
			return l.recordWhile(c)
		},
	},
	{
		reason: observe.ServiceRemoved, how: "UDP: the Service goes", want: one(session("service_removed proxy drain")),
		run: func(l *lab) *observe.Record {
			l.serve(udpService(), 1, ready(l.echoes())...)
			l.asking()
			l.serve(nil, 0)
			return l.record()
		},
	},
	{
		reason: observe.Shutdown, how: "UDP: usher stops", want: one(session("shutdown proxy drain")), change: hurries,
		run: func(l *lab) *observe.Record {
			l.serve(udpService(), 1, ready(l.echoes())...)
			l.asking()
			l.stop()
			return l.record()
		},
	},
}

// session is what is said of a session, whose sides do not close.
func session(reasonSidePhase string) string { return reasonSidePhase + " - none none none none" }

func shortSessions(c *proxier.Config) {
	c.Service.UDP.Idle, c.Service.UDP.Stream = time.Second, time.Second
}

// echoes is an endpoint that answers every datagram.
func (l *lab) echoes() netip.AddrPort {
	l.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	l.must(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for data := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(data)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			conn.WriteTo(data[:n], from)
		}
	}()
	l.Cleanup(func() { conn.Close(); <-done })
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

// recordWhile is the next record, while a client sends again and again.
func (l *lab) recordWhile(c net.Conn) *observe.Record {
	l.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		io.WriteString(c, "ping")
		select {
		case r := <-l.records:
			return r
		case <-time.After(100 * time.Millisecond):
		}
	}
	l.Fatal("no record")
	return nil
}

// asker is a client.
func (l *lab) asker() net.Conn {
	l.Helper()
	c, err := net.Dial("udp", vip)
	l.must(err)
	l.Cleanup(func() { c.Close() })
	return c
}

// asking is a client that has got an answer.
func (l *lab) asking() net.Conn {
	l.Helper()
	c := l.asker()
	l.ask(c)
	return c
}

// ask asks until there is an answer.
func (l *lab) ask(c net.Conn) {
	l.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		io.WriteString(c, "ping")
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := c.Read(make([]byte, 10)); err == nil {
			return
		}
	}
	l.Fatal("no answer")
}
