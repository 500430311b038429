package dial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// attempt is one try to connect to one endpoint.
type attempt struct {
	call   *Call
	pick   balancer.Pick
	leave  func()
	from   netip.Addr
	start  time.Time
	limit  time.Time // when it is given up
	full   bool      // that is Retry.Timeout after its start
	hedged bool

	// How it ended.
	conn   *tcp.Conn
	took   time.Duration
	err    error
	result observe.Reason
}

func (a *attempt) addr() netip.AddrPort { return a.pick.Endpoint.Addr }

// run connects, and keeps what came of it.
func (a *attempt) run(ctx context.Context, connect connect) {
	conn, err := connect(ctx, tcp.Target{Addr: a.addr(), From: a.from, Poller: a.call.Poller}, a.limit)
	a.end(conn, err)
}

func (a *attempt) end(conn *tcp.Conn, err error) {
	a.conn, a.took, a.result = conn, time.Since(a.start), ResultOf(err)
	if err != nil {
		a.err = failure(a.addr(), err)
	}
}

func failure(to netip.AddrPort, err error) error { return fmt.Errorf("connect to %s: %w", to, err) }

// tells says whether the end says something of the endpoint. Silence does if it
// lasted as long as an answer may take.
func (a *attempt) tells() bool {
	if a.result == observe.ConnectTimeout {
		return a.full || errors.Is(a.err, unix.ETIMEDOUT)
	}
	return a.err == nil || blames(a.result)
}

// report tells what is to be learned of the endpoint.
func (a *attempt) report() {
	if a.call.Report != nil && a.tells() {
		a.call.Report(a.addr(), a.err)
	}
}

// settle ends an attempt that the caller does not get.
func (a *attempt) settle() {
	if a.conn != nil {
		a.conn.Reset() // so that no port is kept for a connection that nobody used
	}
	var outcome balancer.Outcome
	if a.tells() {
		outcome = balancer.Outcome{Err: a.err, Connect: a.took}
	}
	a.report()
	giveBack(a.pick, outcome, a.leave)
}

// giveBack ends a pick and what Call.Admit has counted for it.
func giveBack(p balancer.Pick, o balancer.Outcome, leave func()) {
	leave()
	if p.Done != nil {
		p.Done(o)
	}
}

// entry is the attempt as the connection's record tells it.
func (a *attempt) entry(took time.Duration, result observe.Reason, err error) observe.Attempt {
	return observe.Attempt{
		Backend: a.addr(), Pod: a.pick.Endpoint.Pod,
		Start: a.start.Sub(a.call.Start), Duration: took,
		Result: result, Errno: observe.ErrnoName(err), Hedged: a.hedged,
	}
}
