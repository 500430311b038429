package outlier

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// remembered is for how long an endpoint that has left is known at least.
	remembered = 5 * time.Minute
	// rememberedMost is how many of those are; who left first is forgotten first.
	rememberedMost = 1000
)

// member returns what is known of an endpoint that is one of a set.
func (d *Detector) member(addr netip.AddrPort, now time.Time) *endpoint {
	e := d.endpoints[addr]
	if e == nil || e.forgotten(now) {
		e = &endpoint{addr: addr}
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
	present := map[*endpoint]bool{}
	for _, s := range d.sets {
		for _, e := range s.members {
			present[e] = true
		}
	}
	var away []*endpoint
	for addr, e := range d.endpoints {
		if present[e] {
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
