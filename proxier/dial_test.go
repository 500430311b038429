package proxier

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// inOrder picks the first endpoint that was not tried, and counts what it is
// told of its picks.
type inOrder struct {
	endpoints  []netip.AddrPort
	good, bad  *atomic.Int64
	pickFailed error
}

func newInOrder(endpoints ...netip.AddrPort) inOrder {
	return inOrder{endpoints: endpoints, good: new(atomic.Int64), bad: new(atomic.Int64)}
}

func (p inOrder) Picker([]balancer.Endpoint) balancer.Picker { return p }

func (p inOrder) Pick(r balancer.Request) (balancer.Pick, error) {
	if p.pickFailed != nil {
		return balancer.Pick{}, p.pickFailed
	}
	if len(r.Tried) == len(p.endpoints) {
		return balancer.Pick{}, balancer.ErrNoEndpoints
	}
	return balancer.Pick{
		Endpoint: balancer.Endpoint{Addr: p.endpoints[len(r.Tried)]},
		Done: func(o balancer.Outcome) {
			if o.Err == nil {
				p.good.Add(1)
			} else {
				p.bad.Add(1)
			}
		},
	}, nil
}

func try(t *testing.T, r Retry, p inOrder) ([]observe.Attempt, error) {
	t.Helper()
	d := dialer{r, 0}
	fromTheNode := func(balancer.Endpoint) netip.Addr { return netip.Addr{} }
	record := &observe.Record{Start: time.Now()}
	conn, _, err := d.dial(context.Background(), func() balancer.Picker { return p }, fromTheNode, record)
	if err == nil {
		conn.Close()
	}
	return record.Attempts, err
}

func TestDialTriesNoMoreThanItMay(t *testing.T) {
	p := newInOrder(freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t))
	attempts, err := try(t, Retry{Attempts: 3, Timeout: time.Second, Total: patience}, p)
	if err == nil || len(attempts) != 3 || p.bad.Load() != 3 {
		t.Errorf("%d attempts, %d told, %v", len(attempts), p.bad.Load(), err)
	}
}

func TestDialKeepsItsTotalTime(t *testing.T) {
	hole := blackhole(t)
	p := newInOrder(hole, hole, hole, hole)
	start := time.Now()
	attempts, err := try(t, Retry{Attempts: 4, Timeout: 400 * time.Millisecond, Total: 600 * time.Millisecond}, p)
	if took := time.Since(start); err == nil || len(attempts) != 2 || took > 1200*time.Millisecond {
		t.Errorf("%d attempts in %s, %v", len(attempts), took, err)
	}
	for _, a := range attempts {
		if a.Result != observe.ConnectTimeout {
			t.Errorf("attempt %+v", a)
		}
	}
}

func TestDialStopsWhenThePolicyFails(t *testing.T) {
	p := newInOrder()
	p.pickFailed = errors.New("a policy with a fault")
	attempts, err := try(t, Retry{Attempts: 3, Timeout: time.Second, Total: patience}, p)
	if !errors.Is(err, p.pickFailed) || outcome(attempts, err) != observe.InternalError {
		t.Errorf("%v, %v", attempts, err)
	}
}

// Every pick is told how it ended, once.
func TestPicksAreToldTheirOutcome(t *testing.T) {
	b := newBackend(t)
	p := newInOrder(freeAddr(t), b.addr)
	s := newScene(t, func(c *Config) {
		c.Balancer, c.Policies = "in-order", map[string]func() balancer.Policy{"in-order": func() balancer.Policy { return p }}
	})
	s.set(with(service("web", vip), p.endpoints...)...)
	s.served(vip)
	get(vip)
	s.record()
	if good, bad := p.good.Load(), p.bad.Load(); good != 2 || bad != 2 {
		t.Errorf("told of %d good and %d bad outcomes, want 2 and 2", good, bad)
	}
}
