package proxier

import (
	"math"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// recently are the records that have ended within a time, the newest first, and how far
// the ring reaches back: not before the start, and not beyond that time.
func (p *Proxier) recently(within time.Duration) (records []*observe.Record, reach time.Duration) {
	const late = time.Second // a record may come into the ring after one that has ended later
	now := time.Now()
	reach = min(within, now.Sub(p.began))
	overwritten := p.recent.Held() == p.recent.Size()
	var oldest time.Time
	for r := range p.recent.Newest(observe.Filter{}) {
		oldest = r.EndTime()
		switch ago := now.Sub(oldest); {
		case ago <= within:
			records = append(records, r)
		case ago > within+late:
			return records, reach
		}
	}
	if overwritten {
		reach = min(reach, max(0, now.Sub(oldest)))
	}
	return records, reach
}

// bytesMoved are what connections have moved, in bytes.
type bytesMoved struct{ in, out uint64 }

// movedLive are the bytes that live connections have moved, by their Service ports.
func (c *connections) movedLive() map[*observe.PortMetrics]bytesMoved {
	sums := map[*observe.PortMetrics]bytesMoved{}
	for _, one := range c.all() {
		if in, out := one.moved(); in > 0 || out > 0 {
			sum := sums[one.shared.metrics]
			sums[one.shared.metrics] = bytesMoved{sum.in + uint64(in), sum.out + uint64(out)}
		}
	}
	return sums
}

// toldBytes remembers the bytes that were told of last. A connection that ends is for a moment
// neither among those that live nor in the metrics; so that no number seems to shrink, it
// is then told again. The zero value is ready. It is safe for concurrent use.
type toldBytes struct {
	mu    sync.Mutex
	bytes map[*observe.PortMetrics]bytesMoved
}

// grow brings numbers up to those that were told before.
func (t *toldBytes) grow(list []observe.Numbers) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := make(map[*observe.PortMetrics]bytesMoved, len(list))
	for i := range list {
		n := &list[i]
		before := t.bytes[n.PortMetrics]
		n.BytesIn, n.BytesOut = max(n.BytesIn, before.in), max(n.BytesOut, before.out)
		now[n.PortMetrics] = bytesMoved{n.BytesIn, n.BytesOut}
	}
	t.bytes = now
}

// numbers are those of all Service ports that were ever used, sorted by name.
func (p *Proxier) numbers() []observe.Numbers {
	list := p.observed.Used() // before those that live: who ends meanwhile is in neither, but never in both
	live := p.data.connections.movedLive()
	for i := range list {
		sum := live[list[i].PortMetrics]
		list[i].BytesIn += sum.in
		list[i].BytesOut += sum.out
	}
	p.told.grow(list)
	return list
}

// Traffic is what has passed all Service ports that were ever used. It is safe for
// concurrent use.
func (p *Proxier) Traffic() admin.TrafficNow {
	recent := p.connectTimes()
	list := p.numbers()
	answer := admin.TrafficNow{Time: time.Now(), Ports: make([]admin.PortTraffic, len(list))}
	for i := range list {
		n := &list[i]
		answer.Ports[i] = admin.PortTraffic{
			Namespace: n.Namespace, Service: n.Service, PortName: n.PortName, Protocol: n.Protocol,
			Traffic: trafficOf(n, recent[&n.PortMetrics.ServicePort]),
		}
	}
	return answer
}

func trafficOf(n *observe.Numbers, recent *admin.RecentTraffic) admin.Traffic {
	return admin.Traffic{
		Active: n.Active, Opened: n.Opened, Closed: n.Closed, Trouble: n.Trouble,
		Failed: n.Failed, Retries: n.Retries, Retried: n.Retried, Waiting: n.Waiting,
		BytesIn: n.BytesIn, BytesOut: n.BytesOut,
		DatagramsIn: n.DatagramsIn, DatagramsOut: n.DatagramsOut, Dropped: n.Dropped, Recent: recent,
	}
}

// connectTimes are those of connections that have ended within the last minute, by their
// Service ports.
func (p *Proxier) connectTimes() map[*observe.ServicePort]*admin.RecentTraffic {
	times := map[*observe.ServicePort][]time.Duration{}
	records, _ := p.recently(time.Minute)
	for _, r := range records {
		if r.Connect >= 0 && r.Protocol == tcpProtocol {
			times[r.ServicePort] = append(times[r.ServicePort], r.Connect)
		}
	}
	recent := make(map[*observe.ServicePort]*admin.RecentTraffic, len(times))
	for port, took := range times {
		slices.Sort(took)
		recent[port] = &admin.RecentTraffic{
			Connections: len(took), ConnectP50: milliseconds(percentile(took, 0.50)), ConnectP99: milliseconds(percentile(took, 0.99)),
		}
	}
	return recent
}

// percentile is the least of the sorted values that such a part of them does not exceed.
func percentile(sorted []time.Duration, part float64) time.Duration {
	return sorted[max(0, int(math.Ceil(part*float64(len(sorted))))-1)]
}

func (p *Proxier) showTraffic(url.Values) (any, error) { return p.Traffic(), nil }
