package observe

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// folding keeps the number of series within a limit: Service ports that come when there is
// no room left have none of their own, but are counted together, as namespace and service
// "_other". So sums over all Services stay right.
//
// A port that has had traffic keeps what it got, own series or none, for as long as it
// lives: else counters would jump. Metrics.mu guards it all.
type folding struct {
	limit   int    // 0: none
	retired others // what ports have counted that are gone and had no series of their own
}

// counting says where the numbers of a port go.
type counting uint8

const (
	undecided counting = iota
	own
	folded
)

// portSeries is about how many a port has that is used.
const portSeries = 20

// other is the name of what has no series of its own. No Service can have it.
const other = "_other"

var foldedPorts = prometheus.NewDesc("usher_metrics_folded_ports",
	"Service ports that have no series of their own, by --metrics-max-series; they are counted as namespace and service "+other+".", nil, nil)

// Limit bounds the series of all Service ports to about that many; 0: no limit.
func (m *Metrics) Limit(series int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.folding.limit = series
}

// Collect is that of prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	var list []*sample // whoever reads the series may be slow, and must not hold the lock
	m.mu.Lock()
	n := m.folding.collect(slices.Collect(maps.Values(m.ports)), func(s *sample) { list = append(list, s) })
	m.mu.Unlock()
	for _, s := range list {
		to <- s
	}
	to <- prometheus.MustNewConstMetric(foldedPorts, prometheus.GaugeValue, float64(n))
}

// collect returns how many ports it has folded.
func (f *folding) collect(ports []*PortMetrics, to func(*sample)) (n int) {
	slices.SortFunc(ports, func(a, b *PortMetrics) int {
		return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a.number, b.number))
	})
	rest, sent := f.retired.clone(), 0
	for _, p := range ports {
		if f.isOwn(p, f.limit-sent) {
			p.collect(func(s *sample) { sent++; to(s) })
		} else {
			n++
			p.collect(rest.add)
		}
	}
	for _, s := range rest {
		to(s)
	}
	return n
}

// order has those come first that keep their series, and then those that need more of them.
func (p *PortMetrics) order() int {
	switch {
	case p.counting == own:
		return 0
	case p.used.Load():
		return 1
	}
	return 2
}

// isOwn says whether a port has series of its own, with room for so many.
func (f *folding) isOwn(p *PortMetrics, room int) bool {
	switch {
	case f.limit == 0 || p.counting == own:
		return true
	case p.counting == folded:
		return false
	case !p.used.Load():
		return room > 0 // gauges may come and go
	case room >= portSeries:
		p.counting = own
	default:
		p.counting = folded
	}
	return p.counting == own
}

// forget keeps what was counted of a port without series of its own.
func (f *folding) forget(p *PortMetrics) {
	if p.counting != folded {
		return
	}
	if f.retired == nil {
		f.retired = others{}
	}
	p.collect(func(s *sample) {
		if !s.gauge {
			f.retired.add(s)
		}
	})
}

// others are sums of series of several ports, by their metric and labels.
type others map[otherKey]*sample

type otherKey struct {
	*family
	labels string
}

func (o others) clone() others {
	c := make(others, len(o))
	for k, s := range o {
		c[k] = new(*s)
	}
	return c
}

// add keeps the protocol and what a metric has beside the labels of all.
func (o others) add(s *sample) {
	labels := slices.Clone(s.labels)
	var key strings.Builder
	for i, l := range labels {
		switch l.GetName() {
		case "namespace", "service":
			labels[i] = label(l.GetName(), other)
		case "port_name":
			labels[i] = label(l.GetName(), "")
		default:
			key.WriteString(l.GetValue() + "\x00")
		}
	}
	k := otherKey{s.family, key.String()}
	if sum := o[k]; sum != nil {
		sum.value += s.value
	} else {
		o[k] = &sample{s.family, labels, s.value}
	}
}
