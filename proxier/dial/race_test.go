package dial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// One of three endpoints is silent. Nobody waits until that times out, and that it
// is silent is found out all the same.
func TestSilentEndpointAmongThree(t *testing.T) {
	// All attempts that go on in the background have room there.
	const connections, hedge, timeout = 150, 60 * time.Millisecond, 2 * time.Second
	hole := blackhole(t)
	l := newLab(t, newBackend(t).addr, hole, newBackend(t).addr)
	l.rotate = true
	var took []time.Duration
	began, asked := 0, 0 // with the silent endpoint, and how often that was tried at all
	for range connections {
		start := time.Now()
		r, err := l.dial(Retry{Attempts: 3, Timeout: timeout, Total: patience, On: Connect, Hedge: hedge})
		must(t, err)
		took = append(took, time.Since(start))
		for _, a := range r.Attempts {
			if a.Backend != hole {
				continue
			}
			asked++
			if a.Hedged { // beside another one that was slow, on a busy machine
				continue
			}
			began++
			if last := r.Attempts[len(r.Attempts)-1]; a.Result != observe.Superseded || a.Duration < hedge ||
				last.Result != observe.OK || !last.Hedged {
				t.Errorf("%+v", r.Attempts)
			}
		}
	}
	slices.Sort(took)
	t.Logf("%d connections, %d of them began with the silent endpoint: p50 %s, p99 %s, most %s", connections, began,
		took[connections/2], took[connections*99/100], took[connections-1])
	l.settled(hole, asked)
	l.wantHeard(hole, slices.Repeat([]observe.Reason{observe.ConnectTimeout}, asked)...)
	if began < connections/4 {
		t.Errorf("%d began with the silent endpoint", began)
	}
}

// The other endpoints are gone, so that the slow one is waited for.
func TestSlowEndpointIsTheOnlyOne(t *testing.T) {
	slow, dead := newHole(t), freeAddr(t)
	l := newLab(t, slow.addr, dead)
	time.AfterFunc(50*time.Millisecond, func() { slow.open(t) })
	r, err := l.dial(Retry{Attempts: 5, Timeout: patience, Total: patience, On: Connect, Hedge: 20 * time.Millisecond})
	must(t, err)
	l.wantResults(r, observe.BackendRefused, observe.OK)
	if r.Pick.Endpoint.Addr != slow.addr || !r.Attempts[0].Hedged || r.Attempts[1].Hedged || r.Connect < 500*time.Millisecond {
		t.Errorf("%+v", r.Attempts)
	}
	l.wantHeard(dead, observe.BackendRefused)
	l.wantHeard(slow.addr, observe.OK)
}

// A loser that connects in the end is closed, and says that its endpoint is there.
func TestLoserConnectsLater(t *testing.T) {
	slow, fast := newHole(t), newBackend(t)
	l := newLab(t, slow.addr, fast.addr)
	r, err := l.dial(Retry{Attempts: 5, Timeout: patience, Total: patience, On: Connect, Hedge: 20 * time.Millisecond})
	must(t, err)
	l.wantResults(r, observe.Superseded, observe.OK)
	if l.mu.Lock(); l.inside[slow.addr] != 1 {
		t.Error("who is still on the way does not count as there")
	}
	l.mu.Unlock()
	slow.open(t)
	l.settled(slow.addr, 1)
	l.wantHeard(slow.addr, observe.OK)
	if took := l.outcomes[slow.addr][0].Connect; took < 500*time.Millisecond {
		t.Errorf("it is told to have connected in %s", took)
	}
}

// Two connect at the same moment: one is taken, the other closed.
func TestTwoConnectAtOnce(t *testing.T) {
	for range 200 {
		a, b := newBackend(t), newBackend(t)
		l := newLab(t, a.addr, b.addr)
		var both sync.WaitGroup
		both.Add(2)
		inEarnest := l.dialer.connect
		l.dialer.connect = func(ctx context.Context, t tcp.Target, limit time.Time) (*tcp.Conn, error) {
			conn, err := inEarnest(ctx, t, limit)
			both.Done()
			both.Wait()
			return conn, err
		}
		r, err := l.dial(Retry{Attempts: 2, Timeout: patience, Total: patience, Hedge: time.Millisecond})
		must(t, err)
		l.wantResults(r, observe.Superseded, observe.OK)
		l.settled(a.addr, 1)
		l.settled(b.addr, 1)
		l.eventually("both closed", func() error {
			if a.count.Load() != 1 || b.count.Load() != 1 || a.now.Load()+b.now.Load() > 0 {
				return fmt.Errorf("%d and %d are open", a.now.Load(), b.now.Load())
			}
			return nil
		})
	}
}

// A hedge follows on the other while attempts allow, and all are waited for.
func TestHedgesFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSilentLab(t, 4)
		const hedge, total = 50 * time.Millisecond, 400 * time.Millisecond
		start := time.Now()
		r, err := l.dial(Retry{Attempts: 3, Timeout: 300 * time.Millisecond, Total: total, On: Connect, Hedge: hedge})
		took := time.Since(start)
		if got := Outcome(r.Attempts, err); got != observe.RetriesExhausted || took != total {
			t.Errorf("%s after %s", got, took)
		}
		l.wantResults(r, observe.ConnectTimeout, observe.ConnectTimeout, observe.ConnectTimeout)
		for i, a := range r.Attempts {
			if a.Start != time.Duration(i)*hedge || a.Hedged != (i > 0) {
				t.Errorf("attempt %d: %+v", i, a)
			}
			l.settled(a.Backend, 1)
			l.wantHeard(a.Backend, observe.ConnectTimeout)
		}
		l.wantHeard(l.endpoints[3])
	})
}

// The search ends by its total time before attempts had theirs: these go on, and
// tell what they find.
func TestTotalTimeEndsARace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSilentLab(t, 2)
		const total = 300 * time.Millisecond
		start := time.Now()
		r, err := l.dial(Retry{Attempts: 2, Timeout: total, Total: total, On: Connect, Hedge: total / 2})
		if took := time.Since(start); took != total || Outcome(r.Attempts, err) != observe.RetriesExhausted {
			t.Errorf("%v after %s", err, took)
		}
		l.wantResults(r, observe.ConnectTimeout, observe.ConnectTimeout)
		for _, e := range l.endpoints {
			l.settled(e, 1)
			l.wantHeard(e, observe.ConnectTimeout)
		}
	})
}

// A hedge that is due as the total time ends does not begin.
func TestHedgeIsTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 { // whichever of the timers is heard first
			l := newSilentLab(t, 2)
			r, err := l.dial(Retry{Attempts: 2, Timeout: time.Second, Total: time.Second, On: Connect, Hedge: time.Second})
			if l.wantResults(r, observe.ConnectTimeout); Outcome(r.Attempts, err) != observe.ConnectTimeout {
				t.Error(err)
			}
		}
	})
}

// An attempt succeeds in time, but the search is held up until the time is over.
func TestFoundInTimeHeardLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			l := newSilentLab(t, 2)
			l.dialer.connect = func(context.Context, tcp.Target, time.Time) (*tcp.Conn, error) {
				time.Sleep(100 * time.Millisecond)
				return tcp.New(-1, nil), nil
			}
			c := l.call(Retry{Attempts: 2, Timeout: time.Second, Total: time.Second, On: Connect, Hedge: 50 * time.Millisecond})
			picks := 0
			c.Picker = func() balancer.Picker {
				if picks++; picks == 2 {
					time.Sleep(time.Second)
				}
				return l
			}
			r, err := l.dialer.Dial(t.Context(), c)
			must(t, err)
			r.Leave()
			r.Pick.Done(balancer.Outcome{})
			if r.Pick.Endpoint.Addr != l.endpoints[0] {
				t.Errorf("%+v", r.Attempts)
			}
		}
	})
}

// The endpoint refuses in the moment in which the search is cancelled: no other
// attempt begins.
func TestNothingFollowsACancellation(t *testing.T) {
	l := newLab(t, freeAddr(t), freeAddr(t))
	l.dialer.connect = func(ctx context.Context, _ tcp.Target, _ time.Time) (*tcp.Conn, error) {
		<-ctx.Done()
		return nil, unix.ECONNREFUSED
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	r, err := l.do(ctx, l.call(Retry{Attempts: 2, Timeout: patience, Total: patience, On: Connect, Hedge: patience}))
	if l.wantResults(r, observe.BackendRefused); Outcome(r.Attempts, err) != observe.Shutdown {
		t.Error(err)
	}
}

// A failure that nothing is to follow on ends no attempt that is under way.
func TestFailureBesideAnAttempt(t *testing.T) {
	slow, third := newHole(t), newBackend(t)
	l := newLab(t, slow.addr, freeAddr(t), third.addr)
	time.AfterFunc(50*time.Millisecond, func() { slow.open(t) })
	r, err := l.dial(Retry{Attempts: 5, Timeout: patience, Total: patience, Hedge: 20 * time.Millisecond})
	must(t, err)
	l.wantResults(r, observe.BackendRefused, observe.OK)
	if third.count.Load() != 0 {
		t.Error("another attempt has followed")
	}
}

func TestHedgesArePaidFor(t *testing.T) {
	slow := newHole(t)
	l := newLab(t, slow.addr, newBackend(t).addr)
	c := l.call(Retry{Attempts: 5, Timeout: patience, Total: patience, On: Connect, Hedge: 20 * time.Millisecond})
	c.Budget = NewTokens(Budget{})
	time.AfterFunc(50*time.Millisecond, func() { slow.open(t) })
	r, err := l.do(t.Context(), c)
	must(t, err)
	if l.wantResults(r, observe.OK); !r.BudgetSpent || r.Pick.Endpoint.Addr != slow.addr {
		t.Errorf("%+v", r)
	}
}

// A client stays with its endpoint while that is slow.
func TestAffinityIsNotHedged(t *testing.T) {
	slow := newHole(t)
	l := newLab(t, slow.addr, newBackend(t).addr)
	l.affinity = balancer.AffinityHit
	time.AfterFunc(50*time.Millisecond, func() { slow.open(t) })
	r, err := l.dial(Retry{Attempts: 5, Timeout: patience, Total: patience, On: Connect, Hedge: 20 * time.Millisecond})
	must(t, err)
	if l.wantResults(r, observe.OK); r.Pick.Endpoint.Addr != slow.addr {
		t.Errorf("it got %s", r.Pick.Endpoint.Addr)
	}
}

// More attempts to a silent endpoint than may go on: there is a bound to them, and
// to what says nothing. Close ends all.
func TestBackgroundIsBounded(t *testing.T) {
	const searches = maxKept + 40
	hole := blackhole(t)
	l := newLab(t, hole, newBackend(t).addr)
	var all sync.WaitGroup
	for range searches {
		all.Go(func() {
			if _, err := l.dial(Retry{Attempts: 2, Timeout: patience, Total: patience, On: Connect, Hedge: 10 * time.Millisecond}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	l.eventually("cancelled ones", func() error {
		if n := len(l.told(hole)); n != searches-maxKept {
			return fmt.Errorf("%d of %d", n, searches-maxKept)
		}
		return nil
	})
	if n := l.dialer.background.kept; n != maxKept || l.inside[hole] != maxKept {
		t.Errorf("%d are kept, and %d count as there", n, l.inside[hole])
	}
	start := time.Now()
	l.dialer.Close()
	if took := time.Since(start); took > patience/2 || len(l.told(hole)) != searches {
		t.Errorf("%s, %d of %d have ended", took, len(l.told(hole)), searches)
	}
	l.wantHeard(hole)
}

func TestDialAfterClose(t *testing.T) {
	b := newBackend(t)
	l := newLab(t, b.addr, b.addr)
	l.dialer.Close()
	l.dialer.Close()
	retry := standard()
	retry.Hedge = time.Second
	r, err := l.dial(retry)
	if l.wantResults(r, observe.Abandoned); Outcome(r.Attempts, err) != observe.Shutdown {
		t.Error(err)
	}
	l.wantHeard(b.addr)
}

// Close comes while a search is under way.
func TestCloseEndsARace(t *testing.T) {
	l := newLab(t, blackhole(t))
	time.AfterFunc(50*time.Millisecond, l.dialer.Close)
	r, err := l.dial(Retry{Attempts: 2, Timeout: patience, Total: patience, On: Connect, Hedge: time.Second})
	if l.wantResults(r, observe.Abandoned); Outcome(r.Attempts, err) != observe.Shutdown {
		t.Error(err)
	}
}

// A policy that panics when it is told of a loser does not end the process.
func TestPanicInTheBackground(t *testing.T) {
	slow := newHole(t)
	l := newLab(t, slow.addr, newBackend(t).addr)
	var panicked atomic.Value
	l.dialer.Panicked = func(value any, stack []byte) { panicked.Store(fmt.Sprintf("%v at %s", value, stack)) }
	c := l.call(Retry{Attempts: 5, Timeout: patience, Total: patience, On: Connect, Hedge: 20 * time.Millisecond})
	c.Picker = func() balancer.Picker { return panicking{l, slow.addr} }
	_, err := l.do(t.Context(), c)
	must(t, err)
	slow.open(t)
	l.eventually("told", func() error {
		if panicked.Load() == nil {
			return errors.New("not yet")
		}
		return nil
	})
}

// panicking tells the picks of one endpoint, and panics.
type panicking struct {
	*lab
	endpoint netip.AddrPort
}

func (p panicking) Pick(r balancer.Request) (balancer.Pick, error) {
	pick, err := p.lab.Pick(r)
	if done := pick.Done; pick.Endpoint.Addr == p.endpoint {
		pick.Done = func(o balancer.Outcome) {
			done(o)
			panic("a policy with a fault")
		}
	}
	return pick, err
}
