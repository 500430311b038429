package outlier

import (
	"net/netip"

	"github.com/usher-proxy/usher/balancer"
)

// Foresee tells what is certain of those that are in (balancer.Foresight).
func (p *picker) Foresee(r balancer.Request) []balancer.Endpoint {
	if in, ok := p.now.Load().in.(balancer.Foresight); ok {
		return in.Foresee(r)
	}
	return nil
}

// Share is 0 for those that are out.
func (p *picker) Share(addr netip.AddrPort) float64 {
	if in, ok := p.now.Load().in.(balancer.Foresight); ok {
		return in.Share(addr)
	}
	return 0
}
