package outlier

import (
	"context"
	"errors"
	"time"
)

// hire gives an endpoint what asks it.
func (d *Detector) hire(e *endpoint, now time.Time) {
	if d.closed || !e.left.IsZero() {
		return
	}
	t := &task{group: &d.running}
	t.ask = func(ctx context.Context) error { return d.ask(ctx, e) }
	t.done = func(begun time.Time, err error) { d.asked(e, t, begun, err) }
	e.task = t
	if c := d.settings.Check; c.Kind != CheckOff {
		e.firstCheck(c, now)
	}
}

// dismiss takes it away.
func (d *Detector) dismiss(e *endpoint) {
	if e.task != nil {
		d.prober.cancel(e.task)
	}
	e.task, e.next = nil, time.Time{}
}

// plan has an endpoint asked when it is time: for its next check, and at the end of
// its back-off.
func (d *Detector) plan(e *endpoint, now time.Time) {
	if e.task == nil {
		return
	}
	next := e.due
	if e.ejected && (next.IsZero() || e.until.After(now) && e.until.Before(next)) {
		next = e.until
	}
	switch {
	case next.Equal(e.next): // the Prober is shared: it is not bothered for nothing
	case next.IsZero():
		d.prober.rest(e.task)
	default:
		d.prober.plan(e.task, next)
	}
	e.next = next
}

// errNoProbe ends the back-off of what cannot be probed.
var errNoProbe = notAsked{errors.New("nothing to ask by")}

// ask is the check or the probe.
func (d *Detector) ask(ctx context.Context, e *endpoint) error {
	d.mu.Lock()
	s := d.settings
	d.mu.Unlock()
	switch {
	case s.Check.Kind != CheckOff:
		return s.Check.ask(ctx, d.prober.dial, e.addr, s.ProxyProtocol)
	case d.udp:
		return errNoProbe
	}
	return probe.ask(ctx, d.prober.dial, e.addr, s.ProxyProtocol)
}

// asked takes the outcome of it.
func (d *Detector) asked(e *endpoint, t *task, begun time.Time, err error) {
	d.mu.Lock()
	if e.task != t {
		d.mu.Unlock()
		return
	}
	now := time.Now()
	s := d.settings
	by := ByProbe
	switch {
	case s.Check.Kind != CheckOff:
		by = ByChecks
	case d.udp:
		by = ByTime
	}
	changed := d.change(e, now, by, func() {
		e.own, e.next = nil, time.Time{}
		if by == ByChecks {
			e.due = begun.Add(jitter(s.Check.Interval))
		}
		switch {
		case by == ByTime:
			e.probed(s.Passive, now, nil)
		case err != nil && isOurs(err):
			e.own = err
			if by == ByProbe && e.mayReturn(now) {
				e.until = now.Add(s.Passive.Base)
			}
		case by == ByChecks:
			e.checked(s.Check, now, err)
		default:
			e.probed(s.Passive, now, err)
		}
	})
	d.mu.Unlock()
	if changed {
		d.settle()
	}
}
