package proxier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/transparent"
)

// Retry bounds the search for an endpoint that answers.
type Retry struct {
	Attempts int           // at most so many endpoints are tried
	Timeout  time.Duration // for one attempt
	Total    time.Duration // for all of them
}

// dialer connects to endpoints.
type dialer struct {
	Retry
	mark uint32 // of our sockets, 0 for none
}

// connect makes one attempt, from an address that need not be the node's; the
// zero Addr leaves it to routing.
func (d *dialer) connect(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	// Keep-alive stays at Go's default (15 s): it finds peers that are gone.
	n := net.Dialer{Timeout: d.Timeout}
	n.SetMultipathTCP(false) // MPTCP sockets cannot be spliced
	if d.mark != 0 || from.IsValid() {
		n.Control = func(_, _ string, c syscall.RawConn) error { return d.prepare(c, from) }
	}
	return n.DialTCP(ctx, "tcp", netip.AddrPortFrom(from, 0), to)
}

// prepare sets what a socket needs before it is bound.
func (d *dialer) prepare(c syscall.RawConn, from netip.Addr) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		if d.mark != 0 {
			err = os.NewSyscallError("setsockopt SO_MARK", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(d.mark)))
		}
		if err == nil && from.IsValid() {
			err = transparent.Prepare(fd)
		}
	})
	return errors.Join(controlErr, err)
}

// dial picks and connects until an endpoint answers, and writes each attempt
// into the record. An endpoint is tried once. It gives up when none is left,
// when its attempts or time are used up, or when the fault is our own. Each
// attempt asks for the picker anew: the endpoints may have changed meanwhile.
// source says from which address each is connected to.
func (d *dialer) dial(ctx context.Context, picker func() balancer.Picker, source func(balancer.Endpoint) netip.Addr, r *observe.Record) (*net.TCPConn, balancer.Pick, error) {
	deadline := time.Now().Add(d.Total)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var tried []netip.AddrPort
	last := error(balancer.ErrNoEndpoints)
	for len(tried) < d.Attempts {
		pick, err := picker().Pick(balancer.Request{Client: r.Client.Addr(), Tried: tried})
		if err != nil {
			if len(tried) == 0 {
				last = err
			}
			break
		}
		noteAffinity(r, pick.Affinity)
		start := time.Now()
		from := source(pick.Endpoint)
		noteSource(r, from)
		conn, err := d.connect(ctx, from, pick.Endpoint.Addr)
		took := time.Since(start)
		result := dialResult(err)
		r.Attempts = append(r.Attempts, observe.Attempt{
			Backend: pick.Endpoint.Addr, Pod: pick.Endpoint.Pod,
			Start: start.Sub(r.Start), Duration: took,
			Result: result, Errno: errnoName(err),
		})
		if err == nil {
			return conn, pick, nil
		}
		last = fmt.Errorf("connect to %s: %w", pick.Endpoint.Addr, err)
		if pick.Done != nil {
			pick.Done(balancer.Outcome{Err: err, Connect: took})
		}
		// A dial may end by the deadline a moment before ctx does.
		if ctx.Err() != nil || !time.Now().Before(deadline) || isOurs(result) {
			break
		}
		tried = append(tried, pick.Endpoint.Addr)
	}
	return nil, balancer.Pick{}, last
}

// noteAffinity keeps how affinity led to the first endpoint, unless that one
// failed and the client got another.
func noteAffinity(r *observe.Record, result balancer.AffinityResult) {
	if r.Affinity == "" || balancer.AffinityResult(r.Affinity) == balancer.AffinityHit {
		r.Affinity = string(result)
	}
}

// dialResult names the error of one attempt.
func dialResult(err error) observe.Reason {
	if errors.Is(err, context.Canceled) {
		return observe.Shutdown
	}
	reason := observe.ReasonOf(err)
	var timeout interface{ Timeout() bool }
	if reason == observe.InternalError && errors.As(err, &timeout) && timeout.Timeout() {
		return observe.ConnectTimeout
	}
	return reason
}

// isOurs tells a fault of this process, which another endpoint cannot mend.
// Running out of ports is one per endpoint: another one may do.
func isOurs(r observe.Reason) bool {
	return r == observe.OutOfFiles || r == observe.OutOfMemory || r == observe.InternalError
}

// outcome is the reason of a connection for which no endpoint was found.
func outcome(attempts []observe.Attempt, err error) observe.Reason {
	switch {
	case len(attempts) == 0 && errors.Is(err, balancer.ErrNoEndpoints):
		return observe.NoEndpoints
	case len(attempts) == 0:
		return observe.InternalError
	}
	last := attempts[len(attempts)-1].Result
	if len(attempts) > 1 && !isOurs(last) {
		return observe.RetriesExhausted
	}
	return last
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
