package proxier

import (
	"time"

	"net/netip"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
)

// newcomers are the endpoints of a set that came when others were there already,
// and since when they are. A Service may give them time to their full share
// (slow-start). It belongs to the reconcile loop.
type newcomers struct {
	known map[netip.AddrPort]time.Time // the zero time: from the beginning
}

// steps are how often the share of a newcomer grows.
const steps = 10

// weigh gives the endpoints their weights at a time. It returns when they want
// others; 0: not by themselves.
func (n *newcomers) weigh(endpoints []balancer.Endpoint, s *annotation.Settings, now time.Time) (weighed []balancer.Endpoint, next time.Duration) {
	if s.SlowStart == 0 && len(s.Weights) == 0 {
		n.known = nil
		return endpoints, 0
	}
	n.meet(endpoints, now)
	weighed = make([]balancer.Endpoint, len(endpoints))
	for i, e := range endpoints {
		e.Weight = s.Weights.Of(e)
		if s.SlowStart > 0 {
			step := n.step(e.Addr, s.SlowStart, now)
			e.Weight *= step
			if step < steps {
				next = s.SlowStart / steps
			}
		}
		weighed[i] = e
	}
	return weighed, next
}

// meet notes who has come and forgets who has gone.
func (n *newcomers) meet(endpoints []balancer.Endpoint, now time.Time) {
	known := make(map[netip.AddrPort]time.Time, len(endpoints))
	for _, e := range endpoints {
		since, met := n.known[e.Addr]
		if !met && len(n.known) > 0 {
			since = now
		}
		known[e.Addr] = since
	}
	n.known = known
}

// step is how many steps of its share an endpoint has, from 1 to steps.
func (n *newcomers) step(addr netip.AddrPort, slowStart time.Duration, now time.Time) int {
	since := n.known[addr]
	if since.IsZero() {
		return steps
	}
	return min(1+int(steps*now.Sub(since)/slowStart), steps)
}
