package proxier

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// inOrder picks the first endpoint that was not tried, and counts what it is
// told of its picks.
type inOrder struct {
	endpoints           []netip.AddrPort
	good, bad, answered atomic.Int64
}

func (p *inOrder) Picker([]balancer.Endpoint) balancer.Picker { return p }

func (p *inOrder) Pick(r balancer.Request) (balancer.Pick, error) {
	if len(r.Tried) == len(p.endpoints) {
		return balancer.Pick{}, balancer.ErrNoEndpoints
	}
	return balancer.Pick{
		Endpoint: balancer.Endpoint{Addr: p.endpoints[len(r.Tried)]},
		Answered: func(took time.Duration) {
			if took > 0 {
				p.answered.Add(1)
			}
		},
		Done: func(o balancer.Outcome) {
			if o.Err == nil {
				p.good.Add(1)
			} else {
				p.bad.Add(1)
			}
		},
	}, nil
}

func TestPicksAreToldTheirOutcome(t *testing.T) {
	b := newBackend(t)
	p := &inOrder{endpoints: []netip.AddrPort{freeAddr(t), b.addr}}
	s := newScene(t, func(c *Config) {
		c.Service.Balancer, c.Policies = "in-order", map[string]func() balancer.Policy{"in-order": func() balancer.Policy { return p }}
	})
	s.set(with(service("web", vip), p.endpoints...)...)
	s.served(vip)
	get(vip)
	s.record()
	if good, bad, answered := p.good.Load(), p.bad.Load(), p.answered.Load(); good != 2 || bad != 2 || answered != 2 {
		t.Errorf("told of %d good outcomes, %d bad ones and %d answers, want 2 of each", good, bad, answered)
	}
}
