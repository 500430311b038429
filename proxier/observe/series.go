package observe

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

var portLabels = []string{"namespace", "service", "port_name", "protocol"}

// family is one metric of all Service ports.
type family struct {
	desc  *prometheus.Desc
	gauge bool
	more  []string // labels beside portLabels
}

// families are all of them.
var families []*family

func counter(name, help string, more ...string) *family { return newFamily(name, help, false, more) }
func gauge(name, help string, more ...string) *family   { return newFamily(name, help, true, more) }

func newFamily(name, help string, gauge bool, more []string) *family {
	f := &family{desc: prometheus.NewDesc(name, help, slices.Concat(portLabels, more), nil), gauge: gauge, more: more}
	families = append(families, f)
	return f
}

// sample is one number as a scrape reads it.
type sample struct {
	*family
	labels []*dto.LabelPair // sorted by name
	value  float64
}

// Desc is that of prometheus.Metric.
func (s *sample) Desc() *prometheus.Desc { return s.desc }

// Write is that of prometheus.Metric.
func (s *sample) Write(out *dto.Metric) error {
	out.Label = s.labels
	if s.gauge {
		out.Gauge = &dto.Gauge{Value: &s.value}
	} else {
		out.Counter = &dto.Counter{Value: &s.value}
	}
	return nil
}

// scrape sends the series of a port. They share the labels that they have in common.
type scrape struct {
	to     func(*sample)
	common []*dto.LabelPair
}

func (p *PortMetrics) scrape(to func(*sample)) *scrape {
	return &scrape{to, []*dto.LabelPair{
		label("namespace", p.Namespace), label("port_name", p.PortName), label("protocol", p.Protocol), label("service", p.Service),
	}}
}

func label(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// send sends one series, with a value for each label that its family has beside those
// of the port.
func (s *scrape) send(f *family, value float64, more ...string) {
	labels := s.common
	if len(more) > 0 {
		labels = make([]*dto.LabelPair, 0, len(s.common)+len(more))
		labels = append(labels, s.common...)
		for i, v := range more {
			labels = append(labels, label(f.more[i], v))
		}
		slices.SortFunc(labels, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	}
	s.to(&sample{family: f, labels: labels, value: value})
}

func (s *scrape) sendTally(f *family, t tally) {
	for _, c := range t {
		s.send(f, float64(c.n), c.of)
	}
}

// collect sends the present series of a port.
func (p *PortMetrics) collect(to func(*sample)) {
	s := p.scrape(to)
	p.collectKept(s)
	if !p.used.Load() {
		return
	}
	lives := connections
	if p.udp != nil {
		lives = sessions
		p.udp.collect(s)
	} else {
		s.send(retries, float64(p.retries.Load()))
		s.send(retried, float64(p.retried.Load()))
		s.send(denied, float64(p.denied.Load()))
		s.send(waiting, float64(p.waiting.Load()))
	}
	s.send(lives.opened, float64(p.opens.Load()))
	s.send(lives.active, float64(p.active.Load()))
	s.send(relayed, float64(p.bytesIn.Load()), "in")
	s.send(relayed, float64(p.bytesOut.Load()), "out")
}

// collectKept sends what the lock guards.
func (p *PortMetrics) collectKept(s *scrape) {
	p.mu.Lock()
	closes, attempts, ejected := slices.Clone(p.closes), slices.Clone(p.attempts), slices.Clone(p.ejections)
	counts, affine, gone := p.endpoints, p.affinity != nil, p.evicted
	clients := 0
	if affine {
		clients = p.affinity.clients
	}
	p.mu.Unlock() // whoever reads the series may be slow
	lives := connections
	if p.udp != nil {
		lives = sessions
	}
	s.sendTally(lives.closes, closes)
	s.sendTally(attempted, attempts)
	s.sendTally(ejections, ejected)
	for i, c := range counts {
		for state, n := range c.n {
			if c.told[state] {
				s.send(endpoints, float64(n), endpointFamilies[i], endpointStates[state])
			}
		}
	}
	if affine {
		s.send(affinity, float64(clients))
	}
	if affine || gone > 0 {
		s.send(evicted, float64(gone))
	}
}
