package proxier

import (
	"net/netip"
	"slices"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/observe"
)

// leaving are the endpoints of a listener that have left while connections to
// them last, and since when they have. Kubernetes lets these connections go on for
// as long as they like; a Service may give them a time (drain-timeout). It belongs
// to the reconcile loop.
type leaving map[netip.AddrPort]time.Time

// drain ends the connections of a listener that have had their time. It returns
// when it wants to be asked again; 0: not before something changes.
func (l *listener) drain(port *Port, now time.Time) (next time.Duration) {
	if !port.Settings.Drain.Asked() {
		l.leaving = nil
		return 0
	}
	left := leaving{}
	for _, c := range l.connections.of(l) {
		endpoint := c.endpoint()
		if !endpoint.IsValid() || port.keeps(endpoint) {
			continue
		}
		if port.Settings.Drain.Unready == annotation.UnreadyReset && has(port.Unready, endpoint) {
			c.abort(observe.EndpointUnhealthy)
			continue
		}
		since, known := l.leaving[endpoint]
		if !known {
			since = now
		}
		left[endpoint] = since
		switch rest := port.Settings.Drain.Timeout - now.Sub(since); {
		case port.Settings.Drain.Timeout < 0:
		case rest <= 0:
			c.abort(observe.EndpointRemoved)
		case next == 0 || rest < next:
			next = rest
		}
	}
	l.leaving = left
	return next
}

// keeps says whether connections to an endpoint may go on for as long as they like.
// One that clients are still sent to has not left for them, even if it is terminating
// as all are.
func (p *Port) keeps(endpoint netip.AddrPort) bool {
	return !p.Settings.Drain.Asked() || has(p.Staying, endpoint) ||
		slices.ContainsFunc(p.sets(), func(s Set) bool { return p.eligible(s).has(endpoint) })
}

// has says whether an endpoint is one of them.
func (e *Eligible) has(endpoint netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(e.Endpoints, endpoint, func(e balancer.Endpoint, a netip.AddrPort) int { return e.Addr.Compare(a) })
	return found
}

// gone is what is left of a Port that nothing leads to any more: all endpoints
// have left it.
func gone(port *Port) *Port {
	return &Port{Key: port.Key, Settings: port.Settings}
}

func has(sorted []netip.AddrPort, a netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(sorted, a, netip.AddrPort.Compare)
	return found
}
