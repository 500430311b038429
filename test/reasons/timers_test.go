package reasons

import (
	"fmt"
	"io"
	"net"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/observe"
)

// Usher's own timers.
var timerScenarios = []scenario{
	{
		reason: observe.HalfCloseTimeout, how: "the client has closed its side, the endpoint says nothing",
		want: one("half_close_timeout proxy data - fin none rst rst"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService("half-close-timeout=1s"), 1, ready(l.endpoint(func(*net.TCPConn) { <-l.over }))...)
			c := l.client()
			c.CloseWrite()
			io.ReadAll(c)
			return l.record()
		},
	},
	{
		reason: observe.HalfCloseTimeout, how: "the endpoint has closed its side, the client says nothing",
		want: one("half_close_timeout proxy data - none fin rst rst"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService("half-close-timeout=1s"), 1, ready(l.endpoint(func(c *net.TCPConn) { c.CloseWrite(); <-l.over }))...)
			io.ReadAll(l.client())
			return l.record()
		},
	},
	{
		reason: observe.IdleTimeout, how: "both are silent", want: one("idle_timeout proxy data - none none rst rst"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService("idle-timeout=1s"), 1, ready(l.endpoint(echo))...)
			io.ReadAll(l.talking())
			return l.record()
		},
	},
	{
		reason: observe.MaxDuration, how: "both talk on", want: one("max_duration proxy data - none none rst rst"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService("max-connection-duration=1s"), 1, ready(l.endpoint(echo))...)
			c := l.client()
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					break
				}
				if _, err := c.Read(make([]byte, 1)); err != nil {
					break
				}
			}
			return l.record()
		},
		// The setting that asks for no TCP_INFO, and that for all.
		change: func(c *proxier.Config) { c.Service.Relay.TCPInfo = observe.OfNone },
		also: func(r *observe.Record) error {
			if s := r.Sockets; s == nil || s.Client != nil || s.Backend != nil {
				return fmt.Errorf("sockets %+v", s)
			}
			return nil
		},
	},
	func() scenario {
		var got int64
		return scenario{
			reason: observe.MaxDuration, how: "the client reads nothing of a flood", want: one("max_duration proxy data - none none rst rst"),
			run: func(l *lab) *observe.Record {
				l.serve(tcpService("max-connection-duration=1s"), 1, ready(l.endpoint(func(c *net.TCPConn) {
					for chunk := make([]byte, 1<<16); ; {
						if _, err := c.Write(chunk); err != nil {
							return
						}
					}
				}))...)
				c := l.client()
				r := l.record()
				got, _ = io.Copy(io.Discard, c) // what it has acknowledged
				return r
			},
			// Of what was not acknowledged some was still with usher.
			also: func(r *observe.Record) error {
				if s := r.Sockets; got == 0 || s == nil || s.UnsentClient <= r.BytesOut-got || s.UnsentBackend != 0 {
					return fmt.Errorf("the client has got %d of %d bytes, sockets %+v", got, r.BytesOut, s)
				}
				return nil
			},
		}
	}(),
	{
		reason: observe.OK, how: "with --log-tcp-info=all", want: one(well),
		change: func(c *proxier.Config) { c.Service.Relay.TCPInfo = observe.OfAll },
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(echo))...)
			return l.good()
		},
		also: func(r *observe.Record) error {
			if s := r.Sockets; s == nil || s.Client == nil || s.Backend == nil || s.Client.RTT == 0 {
				return fmt.Errorf("sockets %+v", s)
			}
			return nil
		},
	},
}
