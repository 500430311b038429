package dial

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// What a search ends with that never came to an attempt, besides
// balancer.ErrNoEndpoints and the faults of policies.
var (
	// ErrEndpointsFull says that Call.Admit let nobody in.
	ErrEndpointsFull = errors.New("every endpoint has as many connections as it may (is max-connections-per-endpoint too low?)")
	// ErrNoAttemptLeft says that Call.Exclude has as many as Retry.Attempts allow.
	ErrNoAttemptLeft = errors.New("no attempt is left")
	// ErrBudgetSpent says that the retry budget has nothing for a Call that goes on
	// from Exclude.
	ErrBudgetSpent = errors.New("the retry budget of the Service port is used up")
)

// Call is one connection's search for an endpoint. Picker, From and Admit are
// called by the goroutine that called Dial. Report, leave and Pick.Done may be
// called by others, and for a Call that hedges also after Dial has returned, until
// Retry.Timeout is over at most. None may block.
type Call struct {
	Client netip.Addr
	Start  time.Time // of the connection: the attempts' times count from it
	Retry  Retry
	Poller *tcp.Poller // that of the client, which watches the endpoint's connection, too
	// Picker is asked anew for each attempt: the endpoints may have changed
	// meanwhile.
	Picker func() balancer.Picker
	// From is the address from which an endpoint is connected to, the client's say;
	// the zero Addr leaves it to routing. nil: always so.
	From func(balancer.Endpoint) netip.Addr
	// Admit counts a connection in, until leave is called, which is once. An endpoint
	// that it does not let in is passed over: there is no attempt. nil: all are let
	// in.
	Admit func(netip.AddrPort) (leave func(), ok bool)
	// Report hears what an attempt says of its endpoint: nil if it was connected to,
	// or why it was not. What is our own fault, was cancelled or had less time than
	// Retry.Timeout says nothing. It may be nil.
	Report func(netip.AddrPort, error)
	// Ended hears of each attempt that has ended while the search lasted, as the Result
	// will tell it. The goroutine that called Dial calls it. It may be nil.
	Ended  func(observe.Attempt)
	Budget *Tokens // of the Service port; nil: any number of attempts
	// Exclude are endpoints that the connection has tried in another Call, which this
	// one goes on from. They count as attempts.
	Exclude []netip.AddrPort
}

// Result is what became of a search.
type Result struct {
	Conn *tcp.Conn // nil if it failed
	// Pick is the choice that led to Conn. Its Done is the caller's to call, as
	// Leave is.
	Pick    balancer.Pick
	Leave   func()        // never nil if Conn is not
	From    netip.Addr    // from which address, as asked for; if it failed: of the last attempt
	Connect time.Duration // that the attempt took

	// Attempts are in the order in which they ended, the one that succeeded is the
	// last. The tries that failed by lack of files, or of memory, are one together:
	// with the endpoint of the first, and lasting from there to the end of the last.
	Attempts []observe.Attempt
	// Affinity is how session affinity led to the endpoint: to the first one, or if
	// that was the client's and failed, to the next.
	Affinity balancer.AffinityResult
	// Full are the endpoints that had no room for the connection, if another one was
	// due and there was none but these: it may wait for them, and go on in another
	// Call.
	Full []netip.AddrPort
	// BudgetSpent says that another attempt was due and the retry budget had nothing
	// for it. The search may have found an endpoint all the same.
	BudgetSpent bool
}

// Dial picks and connects until an endpoint answers. It gives up when none is
// left, when attempts, time or budget are used up, after a failure that is not
// one of Retry.On, when the fault is one of our own that waiting does not mend, or
// with ctx. The error is that of the last attempt, with the endpoint's address, or
// why there was none; Outcome names it. The Result is good for its story in either
// case.
func (d *Dialer) Dial(ctx context.Context, c Call) (Result, error) {
	if len(c.Exclude) == 0 {
		c.Budget.deposit()
	}
	if c.Retry.Hedge > 0 {
		s := &search{}
		s.start(ctx, d, c)
		return s.end(s.race())
	}
	s := searches.Get().(*search)
	defer func() {
		*s = search{}
		searches.Put(s)
	}()
	s.start(ctx, d, c)
	return s.end(s.oneByOne())
}
