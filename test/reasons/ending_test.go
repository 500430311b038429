package reasons

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/test/netns"
)

// Connections that somebody ends from outside.
var endingScenarios = []scenario{
	{
		reason: observe.EndpointRemoved, how: "drain-timeout, and the endpoint leaves", want: one(ended("endpoint_removed")),
		run: func(l *lab) *observe.Record {
			s, e := tcpService("drain-timeout=0"), l.endpoint(echo)
			l.serve(s, 1, ready(e)...)
			c := l.talking()
			l.serve(s, 1, end{AddrPort: e, leaves: true}, end{AddrPort: l.endpoint(echo)})
			io.ReadAll(c)
			return l.record()
		},
	},
	{
		reason: observe.EndpointUnhealthy, how: "on-endpoint-unready=reset, and it is not ready any more", want: one(ended("endpoint_unhealthy")),
		run: func(l *lab) *observe.Record {
			s, e := tcpService("on-endpoint-unready=reset"), l.endpoint(echo)
			l.serve(s, 1, ready(e)...)
			c := l.talking()
			l.serve(s, 0, end{AddrPort: e, unready: true})
			io.ReadAll(c)
			return l.record()
		},
	},
	{
		reason: observe.Shutdown, how: "usher stops", want: one(ended("shutdown")), change: hurries,
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(echo))...)
			c := l.talking()
			l.stop()
			io.ReadAll(c)
			return l.record()
		},
	},
	{
		reason: observe.AdminKilled, how: "somebody asks usher to (POST /v1/kill)", want: one("admin_killed proxy data - none none rst rst"),
		run: func(l *lab) *observe.Record {
			e := l.endpoint(echo)
			l.serve(tcpService(), 1, ready(e)...)
			c := l.talking()
			l.kill(e.String())
			io.ReadAll(c)
			return l.record()
		},
	},
	{
		reason: observe.SocketDestroyed, how: "ss -K of the client's side", want: one("socket_destroyed proxy data ECONNABORTED local none none rst"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.endpoint(echo))...)
			c := l.talking()
			l.destroy(fmt.Sprintf("dport = :%d", portOf(c)))
			io.ReadAll(c)
			return l.record()
		},
	},
	{
		reason: observe.SocketDestroyed, how: "ss -K of the endpoint's side", want: one("socket_destroyed proxy data ECONNABORTED none local rst none"),
		run: func(l *lab) *observe.Record {
			e := l.endpoint(echo)
			l.serve(tcpService(), 1, ready(e)...)
			c := l.talking()
			l.destroy(fmt.Sprintf("dport = :%d", e.Port()))
			io.ReadAll(c)
			return l.record()
		},
	},
	{
		reason: observe.SocketDestroyed, how: "ss -K of the client's side while an endpoint is connected to", attempts: "abandoned()",
		want: one("socket_destroyed proxy connect ECONNABORTED local none none none"),
		run: func(l *lab) *observe.Record {
			l.serve(tcpService(), 1, ready(l.silent())...)
			c := l.client()
			l.becomes(1, "usher_connections_active", "")
			l.destroy(fmt.Sprintf("dport = :%d", portOf(c)))
			io.ReadAll(c)
			return l.record()
		},
	},
}

// ended is what is said of a connection that both sides would have gone on with.
func ended(reason string) string { return reason + " proxy drain - none none rst rst" }

// destroy has the kernel close sockets (INET_DIAG_DESTROY).
func (l *lab) destroy(which string) {
	l.Helper()
	netns.Eventually(l, "ss -K "+which, func() error {
		out, err := exec.Command("ss", "-H", "-t", "-n", "-K", which).CombinedOutput()
		if err == nil && len(out) == 0 {
			err = errors.New("no socket was closed")
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// kill has usher end all connections to an endpoint.
func (l *lab) kill(backend string) {
	l.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.cfg.AdminSocket)
	}}}
	var answer *http.Response
	netns.Eventually(l, "the admin socket", func() (err error) {
		answer, err = client.Post("http://usher/v1/kill?backend="+backend, "", nil)
		return err
	})
	defer answer.Body.Close()
	if said, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK {
		l.Fatalf("kill: %s: %s", answer.Status, said)
	}
}
