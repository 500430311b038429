package reasons

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/usher-proxy/usher/proxier/observe"
)

const (
	well        = "ok none data - fin fin fin fin"
	clientReset = "client_reset client data ECONNRESET rst none none rst"
	clientGone  = "client_gone client data ETIMEDOUT timeout none none rst"
)

// Clients.
var clientScenarios = []scenario{
	{
		reason: observe.OK, how: "the client closes first", want: one(well), attempts: "ok()",
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(echo))...)
			c := l.talking()
			c.CloseWrite()
			io.ReadAll(c)
			return l.record()
		},
		also: func(r *observe.Record) error {
			if r.ClientCloseAt > r.BackendCloseAt || r.BytesIn != 4 || r.BytesOut != 4 || r.Sockets != nil || r.Pick.String() != "first" || r.Candidates != 1 || r.Eligible != 1 {
				return fmt.Errorf("record %+v, %+v", r, r.Ending)
			}
			return nil
		},
	},
	{
		reason: observe.OK, how: "the endpoint closes first", want: one(well),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(func(c *net.TCPConn) { io.WriteString(c, "bye") }))...)
			c := l.client()
			io.ReadAll(c)
			c.Close()
			return l.record()
		},
		also: func(r *observe.Record) error {
			if r.BackendCloseAt > r.ClientCloseAt {
				return errors.New("the client was first")
			}
			return nil
		},
	},
	{
		reason: observe.OK, how: "the client sends a FIN while an endpoint is connected to", want: one(well),
		run: func(l *lab) *observe.Record {
			e := l.endpoint(echo)
			drop := fmt.Sprintf("INPUT -p tcp --dport %d --syn -j DROP", e.Port())
			l.run("iptables -w -A " + drop)
			l.serve(tcpService(), 1, ready(e)...)
			c := l.client()
			io.WriteString(c, "ping")
			c.CloseWrite()
			l.becomes(1, "usher_connections_active", "")
			l.run("iptables -w -D " + drop) // the SYN is sent again
			io.ReadAll(c)
			return l.record()
		},
	},
	{
		reason: observe.ClientReset, how: "RST while both talk", want: one(clientReset),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(echo))...)
			reset(l.talking())
			return l.record()
		},
		also: wantsTCPInfo,
	},
	{
		reason: observe.ClientReset, how: "close with data unread, which the kernel makes an RST", want: one(clientReset),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(func(c *net.TCPConn) { io.WriteString(c, "two"); <-l.over }))...)
			c := l.client()
			c.Read(make([]byte, 1))
			c.Close()
			return l.record()
		},
	},
	{
		reason: observe.ClientReset, how: "a FIN, then an RST", want: one("client_reset client data EPIPE rst none none rst"), // tcp_reset of the kernel says so
		run: func(l *lab) *observe.Record {
			heard := make(chan struct{})
			l.serve(tcpService(), 1, ready(l.endpoint(func(c *net.TCPConn) { io.ReadAll(c); close(heard); <-l.over }))...)
			c := l.client()
			c.CloseWrite()
			<-heard
			reset(c)
			return l.record()
		},
	},
	{
		reason: observe.ClientReset, how: "RST while the endpoint floods it",
		want: one("client_reset client data ECONNRESET|EPIPE rst none none rst"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(func(c *net.TCPConn) {
				for chunk := make([]byte, 1<<16); ; {
					if _, err := c.Write(chunk); err != nil {
						return
					}
				}
			}))...)
			c := l.client()
			io.ReadFull(c, make([]byte, 1<<20))
			reset(c)
			return l.record()
		},
		also: func(r *observe.Record) error {
			if r.Sockets == nil || r.Sockets.UnsentClient == 0 {
				return fmt.Errorf("nothing was left unsent: %+v", r.Sockets)
			}
			return nil
		},
	},
	{
		reason: observe.ClientAbort, how: "RST while an endpoint is connected to", attempts: "abandoned()",
		want: one("client_abort client connect ECONNRESET rst none none none"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.silent())...)
			c := l.client()
			l.becomes(1, "usher_connections_active", "")
			reset(c)
			return l.record()
		},
	},
	{
		reason: observe.ClientAbort, how: "RST while it waits for its turn",
		want: one("client_abort client accept ECONNRESET rst none none none"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService("max-connections=1", "on-limit=wait:30s"), 1, ready(l.endpoint(echo))...)
			l.talking()
			c := l.client()
			l.becomes(1, "usher_connections_waiting", "")
			reset(c)
			return l.record()
		},
	},
	{
		reason: observe.ClientAbort, how: "RST while it waits for room at an endpoint",
		want: one("client_abort client pick ECONNRESET rst none none none"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService("max-connections-per-endpoint=1", "on-limit=wait:30s"), 1, ready(l.endpoint(echo))...)
			l.talking()
			c := l.client()
			l.becomes(1, "usher_connections_waiting", "")
			reset(c)
			return l.record()
		},
	},
	{
		reason: observe.ClientGone, how: "it acknowledges nothing (tcp-user-timeout)", want: one(clientGone),
		run: func(l *lab) *observe.Record {
			say := make(chan struct{})
			l.serve(tcpService("tcp-user-timeout=1s"), 1, ready(l.endpoint(func(c *net.TCPConn) {
				io.WriteString(c, "ping")
				<-say
				io.WriteString(c, "lost")
				<-l.over
			}))...)
			c := l.client()
			io.ReadFull(c, make([]byte, 4))
			l.cut(portOf(c))
			close(say)
			return l.record()
		},
		also: func(r *observe.Record) error {
			if s := r.Sockets; s == nil || s.UnsentClient != 4 || s.UnsentBackend != 0 || s.Client == nil || s.Client.Retrans == 0 {
				return fmt.Errorf("sockets %+v", s)
			}
			return nil
		},
	},
	{
		reason: observe.ClientGone, how: "it acknowledges neither the last bytes nor the FIN behind them",
		want: one("client_gone client data ETIMEDOUT timeout fin fin rst"),
		run: func(l *lab) *observe.Record {
			say := make(chan struct{})
			l.serve(tcpService("tcp-user-timeout=1s"), 1, ready(l.endpoint(func(c *net.TCPConn) {
				io.WriteString(c, "ping")
				<-say
				io.WriteString(c, "lost")
				c.CloseWrite()
				<-l.over
			}))...)
			c := l.client()
			io.ReadFull(c, make([]byte, 4))
			l.cut(portOf(c))
			close(say)
			return l.record()
		},
		also: func(r *observe.Record) error {
			if s := r.Sockets; s == nil || s.UnsentClient != 4 {
				return fmt.Errorf("sockets %+v", s)
			}
			return nil
		},
	},
	{
		reason: observe.ClientGone, how: "it is silent and its host is gone (tcp-keepalive)", want: one(clientGone),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService("tcp-keepalive=1s,1s,1"), 1, ready(l.endpoint(echo))...)
			l.cut(portOf(l.talking()))
			return l.record()
		},
	},
	{
		reason: observe.ClientGone, how: "while an endpoint is connected to", attempts: "abandoned()",
		want: one("client_gone client connect ETIMEDOUT timeout none none none"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService("tcp-keepalive=1s,1s,1"), 1, ready(l.silent())...)
			c := l.client()
			l.becomes(1, "usher_connections_active", "")
			l.cut(portOf(c))
			return l.record()
		},
	},
	{
		reason: observe.ClientReset, how: "both sides reset at the same time",
		want: []string{clientReset, "backend_reset backend data ECONNRESET none rst rst none",
			"client_reset client data ECONNRESET|EPIPE rst none none rst|none", "backend_reset backend data ECONNRESET|EPIPE none rst rst|none none"},
		run: func(l *lab) *observe.Record {
			now := make(chan struct{})
			l.serve(tcpService(), 1, ready(l.endpoint(func(c *net.TCPConn) {
				io.ReadFull(c, make([]byte, 4))
				io.WriteString(c, "pong")
				<-now
				crash(c)
			}))...)
			c := l.talking()
			close(now)
			reset(c)
			return l.record()
		},
	},
}

// wantsTCPInfo: by default those that are trouble have it.
func wantsTCPInfo(r *observe.Record) error {
	if s := r.Sockets; s == nil || s.Client == nil || s.Backend == nil || s.Client.State != "CLOSED" || s.Backend.State != "ESTABLISHED" || s.Backend.MSS == 0 {
		return fmt.Errorf("sockets %+v", r.Sockets)
	}
	return nil
}
