package outlier

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"
)

// endpoint is what is known of one of them. The Detector's lock guards it.
type endpoint struct {
	addr netip.AddrPort
	// suspect says that a good connection would change something. It is read without
	// the lock, by every good connection.
	suspect atomic.Bool

	// By connections.
	failures  int   // in a row
	failure   error // the last one
	ejected   bool
	ejections int       // how often the back-off began, as far as it is not forgiven
	until     time.Time // end of the back-off
	returned  time.Time // from the last ejection

	// By checks.
	good, bad int // in a row, no more than Rise and Fall; one of them is 0
	failed    bool
	complaint error // of the last bad check

	own   error     // why the last check or probe could not be made, nil if it could
	order uint64    // the lower the earlier it went out; 0: it is in
	since time.Time // when it went out
	task  *task     // what asks it, nil if nothing does
	due   time.Time // when its next check is, zero if there are none
	next  time.Time // when it is asked next, zero if it is not
	left  time.Time // when it left all sets, zero if it is in one
}

func (e *endpoint) out() bool { return e.ejected || e.failed }

// connectionFailed counts a failure, and ejects when there are too many.
func (e *endpoint) connectionFailed(p Passive, now time.Time, err error) {
	if e.ejected || p.Failures == 0 {
		return
	}
	e.failures = min(e.failures+1, p.Failures) // there may have been more, by other settings
	e.failure = err
	e.suspect.Store(true)
	if e.failures == p.Failures {
		e.ejections = e.standing(p, now)
		e.ejected = true
		e.backOff(p, now)
	}
}

// backOff begins the next one, twice as long as the last.
func (e *endpoint) backOff(p Passive, now time.Time) {
	if p.backOff(e.ejections) < p.Max {
		e.ejections++
	}
	e.until = now.Add(p.backOff(e.ejections))
}

// backOff is how long the nth one is; 0 for n = 0.
func (p Passive) backOff(n int) time.Duration {
	d := p.Base
	if n == 0 {
		return 0
	}
	for ; n > 1 && d < p.Max; n-- {
		d *= 2
	}
	return min(d, p.Max)
}

// standing is how many ejections still count: each Max of good time makes it one
// less.
func (e *endpoint) standing(p Passive, now time.Time) int {
	if e.ejected || e.ejections == 0 {
		return e.ejections
	}
	return max(e.ejections-int(min(now.Sub(e.returned)/p.Max, 1<<20)), 0)
}

// admit ends an ejection, or what might have become one.
func (e *endpoint) admit(now time.Time) {
	if e.ejected {
		e.returned = now
	}
	e.failures, e.failure, e.ejected = 0, nil, false
	e.suspect.Store(false)
}

// mayReturn says whether a good probe ends the ejection.
func (e *endpoint) mayReturn(now time.Time) bool { return e.ejected && !now.Before(e.until) }

// checked counts the outcome of a check. The first good one after the back-off
// also ends an ejection; bad ones do not lengthen it, since the check itself is
// judge then.
func (e *endpoint) checked(c Check, now time.Time, err error) {
	if err != nil {
		e.good, e.bad, e.complaint = 0, min(e.bad+1, c.Fall), err
		e.failed = e.failed || e.bad == c.Fall
		return
	}
	e.good, e.bad = min(e.good+1, c.Rise), 0
	if e.good == c.Rise {
		e.failed, e.complaint = false, nil
	}
	if e.mayReturn(now) {
		e.admit(now)
	}
}

// probed takes the outcome of a probe.
func (e *endpoint) probed(p Passive, now time.Time, err error) {
	switch {
	case !e.mayReturn(now): // it was about an ejection that has ended
	case err == nil:
		e.admit(now)
	default:
		e.failure = err
		e.backOff(p, now)
	}
}

// forgetChecks is for when there are none any more, or they ask another question.
func (e *endpoint) forgetChecks(on bool) {
	e.good, e.bad = 0, 0
	if !on {
		e.failed, e.complaint, e.due = false, nil, time.Time{}
	}
}

// clean says whether nothing of it is worth remembering.
func (e *endpoint) clean(p Passive, now time.Time) bool {
	return !e.out() && e.failures == 0 && e.bad == 0 && e.standing(p, now) == 0
}

// firstCheck spreads the checks of many endpoints over the interval. One that is
// out and came anew, ready for Kubernetes, is asked at once.
func (e *endpoint) firstCheck(c Check, now time.Time) {
	e.due = now
	if !e.failed {
		e.due = now.Add(rand.N(c.Interval))
	}
}

// jitter is d, 20 % more or less.
func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5+1) }
