package outlier

import (
	"net/netip"
	"slices"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

const (
	// remembered is for how long an endpoint that has left is known at least.
	remembered = 5 * time.Minute
	// rememberedMost is how many of those are; who left first is forgotten first.
	rememberedMost = 1000
)

// meet greets the endpoints of a set: those who have come back, and if they are
// checked, those who are new. Of an endpoint that nothing speaks against there is
// nothing to know, and most are such.
func (d *Detector) meet(s *set, now time.Time) {
	checks := d.settings.Check.Kind != CheckOff
	if !checks && len(d.endpoints) == 0 {
		return
	}
	for i := range s.endpoints {
		if addr := s.endpoints[i].Addr; checks || d.endpoints[addr] != nil {
			d.member(addr, now)
		}
	}
}

// meetFailing returns what is known of an endpoint that has failed a connection, nil
// if it is in no set or connections do not count.
func (d *Detector) meetFailing(addr netip.AddrPort, now time.Time) *endpoint {
	if d.closed || d.settings.Passive.Failures == 0 || !slices.ContainsFunc(d.sets, func(s *set) bool { return s.has(addr) }) {
		return nil
	}
	e := d.member(addr, now)
	d.publish() // the next good connection is to find it
	return e
}

func (s *set) has(addr netip.AddrPort) bool {
	return slices.ContainsFunc(s.endpoints, func(e balancer.Endpoint) bool { return e.Addr == addr })
}

// member returns what is known of an endpoint that is one of a set.
func (d *Detector) member(addr netip.AddrPort, now time.Time) *endpoint {
	e := d.endpoints[addr]
	if e == nil || e.forgotten(now) {
		e = &endpoint{addr: addr}
		if d.endpoints == nil {
			d.endpoints = map[netip.AddrPort]*endpoint{}
		}
		d.endpoints[addr] = e
	}
	if e.task == nil {
		e.left = time.Time{}
		d.hire(e, now)
		d.plan(e, now)
	}
	return e
}

// forgotten says whether an endpoint has been away for so long that it counts as
// new.
func (e *endpoint) forgotten(now time.Time) bool {
	return !e.left.IsZero() && now.Sub(e.left) > remembered && now.After(e.until)
}

// sweep lets go of endpoints that are in no set, and forgets who is long away.
func (d *Detector) sweep(now time.Time) {
	if len(d.endpoints) == 0 {
		return
	}
	present := map[netip.AddrPort]bool{}
	for _, s := range d.sets {
		for i := range s.endpoints {
			present[s.endpoints[i].Addr] = true
		}
	}
	var away []*endpoint
	for addr, e := range d.endpoints {
		if present[addr] {
			continue
		}
		d.dismiss(e)
		if e.left.IsZero() {
			e.left = now
		}
		if e.clean(d.settings.Passive, now) || e.forgotten(now) {
			delete(d.endpoints, addr)
		} else {
			away = append(away, e)
		}
	}
	if excess := len(away) - rememberedMost; excess > 0 {
		slices.SortFunc(away, func(a, b *endpoint) int { return a.left.Compare(b.left) })
		for _, e := range away[:excess] {
			delete(d.endpoints, e.addr)
		}
	}
}
