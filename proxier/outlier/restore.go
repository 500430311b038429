package outlier

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// EndpointState is what a Detector knows of an endpoint. It is plain data.
type EndpointState struct {
	Endpoint netip.AddrPort

	// By connections.
	Failures  int    // in a row
	Failure   string // why the last one has failed
	Ejected   bool
	Ejections int       // how often it was, as far as that is not forgiven
	Until     time.Time // the end of its back-off
	Returned  time.Time // from the last ejection

	// By checks.
	Good, Bad int // in a row
	Failed    bool
	Complaint string // of the last bad one

	Since time.Time // when it went out, zero if it is in
	Left  time.Time // when it left all sets, zero if it is in one
}

// State returns that of every endpoint that something speaks against or has spoken
// against: first of those that are out, in the order in which they went out.
func (d *Detector) State() []EndpointState {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	var known []*endpoint
	for _, e := range d.endpoints {
		if !e.clean(d.settings.Passive, now) {
			known = append(known, e)
		}
	}
	slices.SortFunc(known, func(a, b *endpoint) int {
		return cmp.Or(cmp.Compare(a.order-1, b.order-1), a.addr.Compare(b.addr)) // who is in has 0, and comes last
	})
	states := make([]EndpointState, len(known))
	for i, e := range known {
		states[i] = EndpointState{
			Endpoint: e.addr,
			Failures: e.failures, Failure: noted(e.failure), Ejected: e.ejected, Ejections: e.ejections, Until: e.until, Returned: e.returned,
			Good: e.good, Bad: e.bad, Failed: e.failed, Complaint: noted(e.complaint),
			Since: e.since, Left: e.left,
		}
	}
	return states
}

// Restore goes on with what State has said of another Detector, in an earlier process
// perhaps: who was out stays out, for the rest of its time, and nobody is told of that
// again. It is to be called before the first Picker. What the settings that the Detector
// has then have no use for is forgotten.
func (d *Detector) Restore(states []EndpointState) {
	d.mu.Lock()
	d.restored = states
	d.mu.Unlock()
}

// recall makes endpoints of what was restored. They are away until a set has them.
func (d *Detector) recall(now time.Time) {
	if len(d.restored) == 0 {
		return
	}
	d.endpoints = make(map[netip.AddrPort]*endpoint, len(d.restored))
	for i := range d.restored {
		e := d.restored[i].recall(d.settings, now)
		if e.out() {
			d.orders++
			e.order, e.since = d.orders, d.restored[i].Since
		}
		d.endpoints[e.addr] = e
	}
	d.restored = nil
}

// recall is the endpoint as far as these settings have a use for what is known of it.
func (s *EndpointState) recall(now Settings, at time.Time) *endpoint {
	p, c := now.Passive, now.Check
	e := &endpoint{addr: s.Endpoint, left: s.Left}
	if e.left.IsZero() {
		e.left = at
	}
	if p.Failures > 0 {
		e.failures, e.failure, e.ejected = s.Failures, quoted(s.Failure), s.Ejected
		e.ejections, e.until, e.returned = s.Ejections, s.Until, s.Returned
		e.suspect.Store(e.ejected || e.failures > 0)
		if limit := at.Add(p.Max); e.until.After(limit) {
			e.until = limit
		}
	}
	if c.Kind != CheckOff {
		e.good, e.bad = min(s.Good, c.Rise), min(s.Bad, c.Fall)
		e.failed, e.complaint = s.Failed, quoted(s.Complaint)
	}
	return e
}

// noted is an error that is to be written down, and quoted makes one of it again.
func noted(err error) string {
	if err == nil {
		return ""
	}
	return text(err)
}

func quoted(why string) error {
	if why == "" {
		return nil
	}
	return errors.New(why)
}
