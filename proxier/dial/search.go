package dial

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

const (
	maxAttempts   = 64  // whatever Retry.Attempts says
	maxPassedOver = 128 // endpoints that are full, in one search: each costs a pick

	// For how long to wait for files or memory of our own.
	shortestPause = 10 * time.Millisecond
	longestPause  = 200 * time.Millisecond
)

// search is the way of a Call to its Result.
type search struct {
	Call
	ctx      context.Context
	dialer   *Dialer
	begin    time.Time
	deadline time.Time

	tried []netip.AddrPort // not to be picked again: tried, full or excluded
	made  int              // attempts, without those that failed by a passing fault of ours
	paid  int              // attempts that the retry budget has been asked for
	full  []netip.AddrPort // those that were passed over
	pause time.Duration    // the last one
	last  error            // with which the search would end now

	result Result
	buffer [4]netip.AddrPort // of tried
	first  attempt           // most need no other
}

// searches are those of one attempt after the other: nothing of them is left when they
// have ended.
var searches = sync.Pool{New: func() any { return &search{} }}

// start makes a new search of s.
func (s *search) start(ctx context.Context, d *Dialer, c Call) {
	*s = search{Call: c, ctx: ctx, dialer: d, begin: time.Now()}
	if s.Start.IsZero() {
		s.Start = s.begin
	}
	s.Retry.Attempts = min(max(c.Retry.Attempts, 1), maxAttempts)
	s.Retry.Timeout = min(c.Retry.Timeout, c.Retry.Total)
	s.deadline = s.begin.Add(c.Retry.Total)
	if d, ok := ctx.Deadline(); ok && d.Before(s.deadline) {
		s.deadline = d
	}
	s.tried = append(s.buffer[:0], c.Exclude...)
	s.paid = len(c.Exclude) - 1 // the connection's first attempt is free, wherever it was made
}

// oneByOne makes an attempt after the other.
func (s *search) oneByOne() bool {
	for {
		a := s.next()
		if a == nil {
			return false
		}
		a.run(s.ctx, s.dialer.connect)
		if a.err == nil {
			s.found(a)
			return true
		}
		pause, again := s.failed(a)
		if !again || !s.sleep(pause) {
			return false
		}
	}
}

// next is the next attempt, or nil if there is none.
func (s *search) next() *attempt {
	follows := s.made > 0 || s.last != nil
	if follows && !time.Now().Before(s.deadline) {
		return nil // it would only end as one that timed out, whatever the search failed of
	}
	if s.used() >= s.Retry.Attempts {
		return s.none(ErrNoAttemptLeft)
	}
	pick, leave, err := s.pick()
	if err != nil {
		return s.none(err)
	}
	if !s.pay() {
		giveBack(pick, balancer.Outcome{}, leave)
		s.result.BudgetSpent = true
		return s.none(ErrBudgetSpent)
	}
	a := &s.first
	if a.call != nil {
		a = &attempt{}
	}
	*a = attempt{call: &s.Call, pick: pick, leave: leave, start: s.begin}
	if follows {
		a.start = time.Now()
	}
	if a.limit, a.full = a.start.Add(s.Retry.Timeout), true; a.limit.After(s.deadline) {
		a.limit, a.full = s.deadline, false
	}
	if s.From != nil {
		a.from = s.From(pick.Endpoint)
	}
	s.made++
	s.tried = append(s.tried, a.addr())
	s.result.From = a.from
	s.noteAffinity(pick.Affinity)
	return a
}

// none keeps why there is no attempt, unless there was one to tell of.
func (s *search) none(err error) *attempt {
	if errors.Is(err, ErrEndpointsFull) {
		s.result.Full = s.full
	}
	if s.made == 0 {
		s.last = err
	}
	return nil
}

// used are the attempts of the connection.
func (s *search) used() int { return len(s.Exclude) + s.made }

// pay asks the budget for an attempt, which it does once for each but the
// connection's first.
func (s *search) pay() bool {
	if s.used() == 0 || s.paid >= s.used() {
		return true
	}
	if !s.Budget.take() {
		return false
	}
	s.paid = s.used()
	return true
}

// pick chooses an endpoint that lets us in.
func (s *search) pick() (balancer.Pick, func(), error) {
	for len(s.full) < maxPassedOver {
		p, err := s.Picker().Pick(balancer.Request{Client: s.Client, Tried: s.tried})
		if errors.Is(err, balancer.ErrNoEndpoints) && len(s.full) > 0 {
			return p, nil, ErrEndpointsFull
		} else if err != nil {
			return p, nil, err
		}
		if slices.Contains(s.tried, p.Endpoint.Addr) {
			giveBack(p, balancer.Outcome{}, stay)
			return p, nil, fmt.Errorf("the policy picked %s once more, which was tried: this is a fault of the policy", p.Endpoint.Addr)
		}
		if s.Admit == nil {
			return p, stay, nil
		}
		if leave, ok := s.Admit(p.Endpoint.Addr); ok {
			return p, leave, nil
		}
		giveBack(p, balancer.Outcome{}, stay)
		s.tried = append(s.tried, p.Endpoint.Addr)
		s.full = append(s.full, p.Endpoint.Addr)
	}
	return balancer.Pick{}, nil, ErrEndpointsFull
}

// stay is the leave of an endpoint that counts nobody.
func stay() {}

// found makes an attempt the result.
func (s *search) found(a *attempt) {
	s.note(a)
	a.report()
	s.result.Conn, s.result.Pick, s.result.Leave = a.conn, a.pick, a.leave
	s.result.From, s.result.Connect = a.from, a.took
}

// failed settles an attempt, and says whether another one may follow, and after
// what pause.
func (s *search) failed(a *attempt) (pause time.Duration, again bool) {
	a.settle()
	s.last = a.err
	if passes(a.result) {
		s.takeBack(a)
		again, pause = true, s.nextPause()
	} else {
		s.note(a)
		again = s.Retry.On.include(a.result)
	}
	// An attempt may end by the deadline a moment before ctx does.
	return pause, again && s.ctx.Err() == nil && time.Now().Add(pause).Before(s.deadline)
}

// takeBack makes an attempt one that the endpoint has not had. All such ones are
// noted as one.
func (s *search) takeBack(a *attempt) {
	s.made--
	s.tried = slices.DeleteFunc(s.tried, func(t netip.AddrPort) bool { return t == a.addr() })
	all := s.result.Attempts
	i := slices.IndexFunc(all, func(b observe.Attempt) bool { return b.Result == a.result })
	if i < 0 {
		s.note(a)
		return
	}
	all[i].Duration = a.start.Add(a.took).Sub(s.Start) - all[i].Start
}

// nextPause doubles, and is drawn so that connections that failed together do not
// try again together.
func (s *search) nextPause() time.Duration {
	s.pause = min(max(2*s.pause, shortestPause), longestPause)
	return s.pause/2 + rand.N(s.pause/2)
}

// sleep returns false if the search has been cancelled meanwhile.
func (s *search) sleep(d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// note tells of an attempt that has ended.
func (s *search) note(a *attempt) {
	s.result.Attempts = append(s.result.Attempts, a.entry(a.took, a.result, a.err))
	if s.Ended != nil {
		s.Ended(s.result.Attempts[len(s.result.Attempts)-1])
	}
}

// noteAffinity keeps how affinity led to the first endpoint, unless that one
// failed and the client got another.
func (s *search) noteAffinity(result balancer.AffinityResult) {
	if s.result.Affinity == balancer.AffinityNone || s.result.Affinity == balancer.AffinityHit {
		s.result.Affinity = result
	}
}

// end is what the search has come to.
func (s *search) end(found bool) (Result, error) {
	if found {
		return s.result, nil
	}
	return s.result, s.err()
}

// err is why nothing was found.
func (s *search) err() error {
	if err := s.ctx.Err(); err != nil && !errors.Is(s.last, err) {
		return fmt.Errorf("the search for an endpoint was given up: %w", err)
	}
	return s.last
}
