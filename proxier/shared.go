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
	listeners int // that have not been forgotten
	metrics   *observe.PortMetrics
	// affinity is where clients were sent to, as long as the Service wants them to
	// stay; it outlives its endpoints.
	affinity *balancer.Affinity
	// sessions are those of a UDP port, nil for others.
	sessions *udp.Group
	// gate and retries bound the connections of a TCP port, and the attempts that
	// follow on failed ones; nil for others.
	gate    *limit.Gate
	retries *dial.Tokens
	// limits, budget and sessionLimits are what these were set to last.
	limits        limit.Limits
	budget        dial.Budget
	sessionLimits udp.Limits
}

// endpointsChanged tells those who wait for one.
func (s *sharedPort) endpointsChanged() {
	if s.gate != nil {
		s.gate.EndpointsChanged()
	}
}

// state is what another process has to know of it.
func (s *sharedPort) state() (affinity []balancer.AffinityEntry, limits limit.State) {
	if s.affinity != nil {
		affinity = s.affinity.Entries()
	}
	if s.gate != nil {
		limits = s.gate.State()
	}
	return affinity, limits
}

// maxAffineClients bounds the memory of one ServicePort to about 16 MB.
const maxAffineClients = 1 << 16

// sharedPort is what the families of a ServicePort share. What is remembered of
// clients is forgotten when the Service no longer wants affinity.
func (p *Proxier) sharedPort(port *Port) *sharedPort {
	s := p.shared[port.ServicePort]
	if s == nil {
		s = &sharedPort{
			metrics: p.observed.Port(port.Namespace, port.Name, port.Port, port.Protocol),
			limits:  port.Settings.Limits, budget: port.Settings.Retry.Budget, sessionLimits: port.Settings.UDP,
		}
		if port.Protocol == udpProtocol {
			s.sessions = p.data.packets.Group(s.sessionLimits)
		} else {
			s.gate, s.retries = limit.NewGate(s.limits, p.data.whole), dial.NewTokens(s.budget)
			s.gate.SetState(p.data.inheritance.Load().limits(port.ServicePort))
		}
		p.shared[port.ServicePort] = s
	}
	s.set(port)
	switch {
	case port.Affinity == 0 && s.affinity != nil:
		s.affinity = nil
		s.metrics.NoAffinity()
	case port.Affinity > 0 && s.affinity == nil:
		s.affinity = balancer.NewAffinity(maxAffineClients)
		s.affinity.Restore(p.data.inheritance.Load().affinity(port.ServicePort))
	}
	if s.affinity != nil {
		s.metrics.Affinity(s.affinity.Len(), s.affinity.Evicted())
	}
	return s
}

// set changes the limits to those of the Port.
func (s *sharedPort) set(port *Port) {
	s.metrics.SetShare(port.Settings.Log)
	if s.sessions != nil && s.sessionLimits != port.Settings.UDP {
		s.sessionLimits = port.Settings.UDP
		s.sessions.SetLimits(s.sessionLimits)
	}
	if s.gate != nil && s.limits != port.Settings.Limits {
		s.limits = port.Settings.Limits
		s.gate.Set(s.limits)
	}
	if s.retries != nil && s.budget != port.Settings.Retry.Budget {
		s.budget = port.Settings.Retry.Budget
		s.retries.SetBudget(s.budget)
	}
}

// forgetShared drops what a listener that is forgotten has shared, if it was the last
// one of its ServicePort.
func (p *Proxier) forgetShared(key Key) {
	s := p.shared[key.ServicePort]
	if s == nil {
		return
	}
	if s.listeners--; s.listeners == 0 {
		s.metrics.Forget()
		delete(p.shared, key.ServicePort)
	}
}
