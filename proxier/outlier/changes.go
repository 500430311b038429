package outlier

import (
	"net/netip"
	"slices"
	"time"
)

// Cause is what made an endpoint go out or come back.
type Cause string

// The causes.
const (
	ByConnections Cause = "connections" // too many failed in a row; or one succeeded
	ByChecks      Cause = "checks"
	ByProbe       Cause = "probe"    // it succeeded
	ByTime        Cause = "time"     // the back-off of an endpoint that cannot be probed is over
	BySettings    Cause = "settings" // what left it out was turned off
)

// Change is an endpoint that went out or came back.
type Change struct {
	Endpoint netip.AddrPort
	Out      bool
	Cause    Cause
	Kept     bool   // it is out but stays in use: no set may withhold one more
	Why      string // a plain sentence without its subject, the endpoint
}

// change does what may make an endpoint go out or come back, and all that follows,
// but for settle: it returns whether that is needed.
func (d *Detector) change(e *endpoint, now time.Time, by Cause, do func()) bool {
	before := e.out()
	do()
	d.plan(e, now)
	if before == e.out() {
		return false
	}
	e.order, e.since = 0, time.Time{}
	if e.out() {
		d.orders++
		e.order, e.since = d.orders, now
	}
	if e.left.IsZero() {
		d.news = append(d.news, Change{Endpoint: e.addr, Out: e.out(), Cause: by, Why: d.reason(e, by), Kept: e.out() && !d.withheld(e)})
	}
	return true
}

// withheld says whether a set leaves an endpoint out.
func (d *Detector) withheld(e *endpoint) bool {
	for _, s := range d.sets {
		if slices.Contains(d.withheldOf(s), e) {
			return true
		}
	}
	return false
}

// tell tells the news in order, without a lock: of two goroutines with news one
// tells those of both.
func (d *Detector) tell() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.telling && len(d.news) > 0 {
		news := d.news
		d.news, d.telling = nil, true
		d.mu.Unlock()
		for _, c := range news {
			d.changed(c)
		}
		d.mu.Lock()
		d.telling = false
	}
}
