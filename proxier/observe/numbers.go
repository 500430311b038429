package observe

import (
	"cmp"
	"slices"
	"strings"
)

// Numbers are the plain numbers of a Service port since its metrics are kept. All but
// Active and Waiting only grow.
type Numbers struct {
	*PortMetrics

	Active           int64 // connections, or UDP sessions
	Opened, Closed   uint64
	Trouble          uint64 // of Closed: see Record.Trouble
	Failed           uint64 // attempts to connect that an endpoint, or usher, has failed
	Retries, Retried uint64 // attempts after the first of a connection; connections that one has saved
	Waiting          int64  // connections that wait for their turn at a limit
	BytesIn          uint64 // of connections that have ended, and of all datagrams
	BytesOut         uint64
	// Of UDP only.
	DatagramsIn, DatagramsOut, Dropped uint64
}

// Used returns the Numbers of those ports that something was ever sent to, sorted by name.
func (m *Metrics) Used() (list []Numbers) {
	m.mu.Lock()
	var used []*PortMetrics
	for _, p := range m.ports {
		if p.used.Load() {
			used = append(used, p)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(used, func(a, b *PortMetrics) int { return a.ServicePort.compare(&b.ServicePort) })
	list = make([]Numbers, len(used))
	for i, p := range used {
		list[i] = p.Numbers()
	}
	return list
}

func (s *ServicePort) compare(other *ServicePort) int {
	return cmp.Or(strings.Compare(s.Namespace, other.Namespace), strings.Compare(s.Service, other.Service),
		strings.Compare(s.PortName, other.PortName), strings.Compare(s.Protocol, other.Protocol))
}

// Numbers returns those of now.
func (p *PortMetrics) Numbers() Numbers {
	n := Numbers{PortMetrics: p, Active: p.active.Load(), Waiting: p.waiting.Load(), Retries: p.retries.Load(), Retried: p.retried.Load()}
	p.mu.Lock()
	for _, c := range p.closes {
		n.Closed += c.n
	}
	n.Trouble = p.trouble
	for _, c := range p.attempts {
		if a := (Attempt{Result: Reason(c.of)}); a.failed() {
			n.Failed += c.n
		}
	}
	p.mu.Unlock()
	n.Opened = p.opens.Load() // after Closed: never less
	n.BytesIn, n.BytesOut = p.bytesIn.Load(), p.bytesOut.Load()
	if u := p.udp; u != nil {
		n.DatagramsIn, n.DatagramsOut = u.in.Load(), u.out.Load()
		for i := range u.drops {
			n.Dropped += u.drops[i].Load()
		}
	}
	return n
}
