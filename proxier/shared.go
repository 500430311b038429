package proxier

import (
	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/udp"
)

// sharedPort is what the families of a ServicePort have in common.
type sharedPort struct {
	metrics *observe.PortMetrics
	// affinity is where clients were sent to, as long as the Service wants them to
	// stay; it outlives its endpoints.
	affinity *balancer.Affinity
	// sessions are those of a UDP port.
	sessions *udp.Group
	// gate and retries bound the connections of a TCP port, and the attempts that
	// follow on failed ones.
	gate    *limit.Gate
	retries *dial.Tokens
}

// maxAffineClients bounds the memory of one ServicePort to about 16 MB.
const maxAffineClients = 1 << 16

// sharedPort is what the families of a ServicePort share. What is remembered of
// clients is forgotten when the Service no longer wants affinity.
func (p *Proxier) sharedPort(port *Port) *sharedPort {
	s := p.shared[port.ServicePort]
	if s == nil {
		s = &sharedPort{
			metrics:  p.observed.Port(port.Namespace, port.Name, port.Port, port.Protocol),
			sessions: p.data.packets.Group(port.Settings.UDP),
			gate:     limit.NewGate(port.Settings.Limits, p.data.whole),
			retries:  dial.NewTokens(port.Settings.Retry.Budget),
		}
		p.shared[port.ServicePort] = s
	}
	s.sessions.SetLimits(port.Settings.UDP)
	s.gate.Set(port.Settings.Limits)
	s.retries.SetBudget(port.Settings.Retry.Budget)
	switch {
	case port.Affinity == 0 && s.affinity != nil:
		s.affinity = nil
		s.metrics.NoAffinity()
	case port.Affinity > 0 && s.affinity == nil:
		s.affinity = balancer.NewAffinity(maxAffineClients)
	}
	if s.affinity != nil {
		s.metrics.Affinity(s.affinity.Len(), s.affinity.Evicted())
	}
	return s
}

// forgetShared drops what is left of a ServicePort without listeners.
func (p *Proxier) forgetShared(key Key) {
	for _, family := range []Family{IPv4, IPv6} {
		if p.listeners[Key{key.ServicePort, family}] != nil {
			return
		}
	}
	for _, l := range p.draining {
		if l.key.ServicePort == key.ServicePort && l.active.Load() > 0 {
			return
		}
	}
	if s := p.shared[key.ServicePort]; s != nil {
		s.metrics.Forget()
		delete(p.shared, key.ServicePort)
	}
}
