package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

const (
	maxProbes   = 100                    // of the Service, and of endpoints
	probeLook   = 20 * time.Millisecond  // how often it is asked who has answered
	probeSettle = 200 * time.Millisecond // for a reset to come, where usher cannot be asked
	probeEnd    = 200 * time.Millisecond // for an endpoint to close, too
)

// errProbe is for the exit code: the lines tell which.
var errProbe = errors.New("not every probe came through")

// probeOptions say what is probed.
type probeOptions struct {
	wayOptions
	count        int
	allEndpoints bool
	timeout      time.Duration
}

func newProbe() *cobra.Command {
	p := &probeOptions{}
	cmd := &cobra.Command{
		Use:   "probe [NAMESPACE/]SERVICE[:PORT]",
		Short: "Connect to a Service, and to its endpoints, from here",
		Long: `probe makes real connections from this command's own process: to the Service, through
usher, and with --all-endpoints to each of its endpoints, past usher. It prints how long
each took to connect, or the error, and for the Service which endpoint it came to. No
byte is sent over them. One is made at a time. It ends with a FIN, and with a reset only if
the endpoint does not close within 200ms: usher then counts it as a client's reset.

A connection to the Service is there as soon as usher has it. Therefore probe waits until
usher has an endpoint for it, too, or has reset it.

With -p udp an empty datagram is sent. "refused" is certain: there is nobody (ICMP port
unreachable). "no refusal" only says that none came within --timeout: a firewall may have
dropped it, and a server that has got it may be silent. Only "answered" proves a server.

The exit code is 0 if all came through, 1 if not, 2 if no usher can be asked, 3 if the
command line cannot be meant, and 4 if there is no such Service.`,
		Example: `  usher probe web --count 10
  usher probe kube-system/kube-dns:dns -p udp --all-endpoints`,
		RunE: p.run,
	}
	f := cmd.Flags()
	p.define(f)
	f.IntVar(&p.count, "count", 1, "connections to the Service, at most 100")
	f.BoolVar(&p.allEndpoints, "all-endpoints", false, "connect to each endpoint, too, in or out")
	f.DurationVar(&p.timeout, "timeout", 3*time.Second, "for each connection, at most 1m")
	p.completions(cmd)
	return cmd
}

func (p *probeOptions) run(cmd *cobra.Command, args []string) error {
	switch {
	case p.count < 1 || p.count > maxProbes:
		return usageError{fmt.Errorf("--count=%d: want 1 to %d", p.count, maxProbes)}
	case p.timeout <= 0 || p.timeout > time.Minute:
		return usageError{fmt.Errorf("--timeout=%s: want more than 0 and at most 1m", p.timeout)}
	}
	x, err := p.ask(cmd, args)
	if err != nil {
		return err
	}
	return p.probe(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), x)
}

func (p *probeOptions) probe(ctx context.Context, w, messages io.Writer, x admin.Explanation) error {
	failed := false
	fmt.Fprintf(w, "%-9s %-26s %-10s %10s  %s\n", "PROBE", "TO", "RESULT", "MS", "ABOUT")
	tell := func(what string, to string, r probed) {
		failed = failed || r.err != nil
		fmt.Fprintf(w, "%-9s %-26s %-10s %10.3f  %s\n", what, observe.Printable(to), r.result, float64(r.took.Microseconds())/1000, observe.Printable(r.about))
	}
	for range p.count {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		tell("service", x.VIP, p.one(ctx, x, x.VIP, true))
	}
	if p.allEndpoints {
		for i, c := range x.Candidates {
			if i == maxProbes {
				fmt.Fprintf(messages, "%d endpoints more are not probed.\n", len(x.Candidates)-i)
				break
			}
			if _, err := netip.ParseAddrPort(c.Address); err != nil || ctx.Err() != nil {
				continue
			}
			r := p.one(ctx, x, c.Address, false)
			if c.Pod != "" {
				r.about = joined("pod "+c.Pod, r.about)
			}
			if c.State == admin.Out {
				r.about = joined(r.about, "usher leaves it out: "+c.Why)
			}
			tell("endpoint", c.Address, r)
		}
	}
	if failed {
		return errors.Join(ctx.Err(), errProbe)
	}
	return ctx.Err()
}

func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// probed is what has come of one.
type probed struct {
	result string
	took   time.Duration
	about  string
	err    error
}

func failure(took time.Duration, err error) probed {
	name, result := observe.ErrnoName(err), "failed"
	var slow net.Error
	switch {
	case name == "ECONNREFUSED":
		result = "refused"
	case name == "ECONNRESET":
		result = "reset"
	case errors.As(err, &slow) && slow.Timeout():
		result = "timeout"
	}
	about := err.Error()
	if name != "" {
		about = name
	}
	return probed{result: result, took: took, about: about, err: err}
}

// one probes one address, through usher or not.
func (p *probeOptions) one(ctx context.Context, x admin.Explanation, to string, usher bool) probed {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	start := time.Now()
	conn, err := new(net.Dialer).DialContext(ctx, x.Protocol, to)
	took := time.Since(start)
	if err != nil {
		return failure(took, err)
	}
	defer conn.Close()
	if tcp, ok := conn.(*net.TCPConn); ok {
		defer part(tcp)
	} else {
		return p.datagram(ctx, conn, x, usher)
	}
	if !usher {
		return probed{result: "connected", took: took}
	}
	about, err := p.endpointOf(ctx, conn, x)
	if err != nil {
		return failure(time.Since(start), err)
	}
	return probed{result: "connected", took: took, about: about}
}

// part ends a connection as a client does that has had its answer, so that it is no trouble
// in usher's record. What the endpoint keeps open all the same is reset: usher is not to
// wait for it (--half-close-timeout).
func part(conn *net.TCPConn) {
	conn.CloseWrite()
	conn.SetReadDeadline(time.Now().Add(probeEnd))
	if _, err := io.Copy(io.Discard, io.LimitReader(conn, 1<<20)); err != nil {
		conn.SetLinger(0)
	}
}

// datagram sends an empty one, and waits for what comes back.
func (p *probeOptions) datagram(ctx context.Context, conn net.Conn, x admin.Explanation, usher bool) probed {
	start := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	_, err := conn.Write(nil)
	var n int
	if err == nil {
		n, err = conn.Read(make([]byte, 1<<16-1))
	}
	took, about := time.Since(start), ""
	if usher && observe.ErrnoName(err) == "" {
		about = p.found(context.WithoutCancel(ctx), conn.LocalAddr().String(), x)
	}
	switch {
	case err == nil:
		return probed{result: "answered", took: took, about: joined(about, counted(n, "byte"))}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return probed{result: "no refusal", took: took, about: about}
	}
	return failure(took, err)
}

// endpointOf waits until usher has an endpoint for a connection, or has reset it.
func (p *probeOptions) endpointOf(ctx context.Context, conn net.Conn, x admin.Explanation) (about string, err error) {
	start, b := time.Now(), make([]byte, 1)
	for {
		conn.SetReadDeadline(time.Now().Add(probeLook))
		_, err := conn.Read(b)
		over := err == nil || errors.Is(err, io.EOF) // the endpoint itself has spoken
		if err != nil && !over && !errors.Is(err, os.ErrDeadlineExceeded) {
			return "", err
		}
		if about = p.found(ctx, conn.LocalAddr().String(), x); about != "" && about != unknown || over {
			return about, nil
		}
		if about == unknown && time.Since(start) > probeSettle {
			return about, nil
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("usher has found no endpoint for it: %w", context.DeadlineExceeded)
		}
	}
}

// unknown is what is told where this usher does not tell of its connections.
const unknown = "by an endpoint that usher cannot tell"

// found asks usher which endpoint the connection or session from one of our addresses
// has: of those that live, and then of the last that have ended.
func (p *probeOptions) found(ctx context.Context, local string, x admin.Explanation) string {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	at, err := netip.ParseAddrPort(local)
	if err != nil {
		return unknown
	}
	q := url.Values{"namespace": {x.Namespace}, "service": {x.Service}, "client": {at.Addr().String()}}
	var live struct {
		admin.Connections
		Sessions []admin.Session `json:"sessions"`
	}
	path := "/v1/connections"
	if x.Protocol == "udp" {
		path = "/v1/sessions"
	}
	err = admin.Get(ctx, p.admin.socket, path, q, &live)
	for _, c := range live.Connections.Connections {
		if c.Client == local && c.Endpoint != "" {
			return answeredBy(c.Endpoint, c.Pod)
		}
	}
	for _, s := range live.Sessions {
		if s.Client == local {
			return answeredBy(s.Endpoint, s.Pod)
		}
	}
	ended := ""
	q.Set("last", "100")
	told := asker{ctx, p.admin.socket}.flows(q, func(f *admin.Flow) (enough bool) {
		if addressOf(f.ClientIP, f.ClientPort) == local && f.BackendIP != "" {
			ended = answeredBy(addressOf(f.BackendIP, f.BackendPort), f.BackendPod)
		}
		return false // the newest is the last
	})
	if ended == "" && err != nil && told != nil {
		return unknown
	}
	return ended
}

func answeredBy(endpoint, pod string) string {
	if pod != "" {
		return fmt.Sprintf("by %s (pod %s)", endpoint, pod)
	}
	return "by " + endpoint
}
