package proxier

import (
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/observe"
)

// use is what to do about an endpoint: all that is kept of a search while bytes move.
type use struct {
	leave    func()                 // nil when it was left
	done     func(balancer.Outcome) // likewise; also nil if the policy does not want to know
	answered func(time.Duration)    // nil if the policy does not want to know
	began    time.Duration          // the attempt, after the connection's start
}

// end tells everybody that an endpoint is not used any more, once.
func (u *use) end(o balancer.Outcome) {
	leave, done := u.leave, u.done
	u.leave, u.done = nil, nil // before anything panics
	if leave != nil {
		leave()
	}
	if done != nil {
		done(o)
	}
}

// take is called when the connection has got an endpoint.
func (c *connection) take(found dial.Result) {
	last := &found.Attempts[len(found.Attempts)-1]
	c.use = use{found.Leave, found.Pick.Done, found.Pick.Answered, last.Start}
	c.hedged, c.noted = last.Hedged, false
}

// leave is called when it has the endpoint no more; err is why that has failed.
func (c *connection) leave(err error) {
	c.use.end(balancer.Outcome{Err: err, Connect: c.record.Connect})
}

// noteAttempt has the record tell of the attempt that led to the endpoint.
func (c *connection) noteAttempt(result observe.Reason, errno string) {
	if c.noted {
		return
	}
	c.noted = true
	r := c.record
	c.addAttempts(observe.Attempt{
		Backend: r.Backend().Addr, Pod: r.Backend().Pod,
		Start: c.use.began, Duration: r.Connect,
		Result: result, Errno: errno, Hedged: c.hedged,
	})
}
