package relay

import (
	"sync"
	"time"
)

// Clock calls relays when one of their limits may be reached: all relays of a proxier share
// one. It is a hashed timing wheel (Varghese and Lauck, 1987) through the relays themselves:
// putting one in and taking it out is a few pointers under a lock, and allocates nothing.
// Bytes that move never touch it: a relay that it calls looks what has moved since, and asks
// to be called again.
//
// It calls a relay up to an eighth of a second too late, and never too early. While no relay
// waits for it nothing runs and no timer is set.
type Clock struct {
	timeouts timeouts

	turning sync.Mutex // held while it calls relays
	mu      sync.Mutex
	timer   *time.Timer
	wakes   tick              // when the timer goes off, 0 if it is not set
	now     tick              // up to which relays were called
	busy    bool              // it calls relays, and sets the timer afterwards
	closed  bool              // it calls no more
	wheel   [wheelSize]*Relay // by the tick at which each is due, and those of later turns
	due     *Relay            // that are being called
}

// tick is a time of the clock, in its steps; 0 is never. They count from a year before the
// process began, as a connection may be older (Resume).
type tick uint32

const (
	tickLength = time.Second / 8
	wheelSize  = 1 << 10 // two minutes
	never      = ^tick(0)
	year       = 365 * 24 * time.Hour
)

// tick is the last one that is not after m.
func (m moment) tick() tick { return tick(max(0, time.Duration(m)+year) / tickLength) }

func (t tick) time() time.Time { return processBegan.Add(time.Duration(t)*tickLength - year) }

// ticks are as many as take at least d. More than a few years are as good as some.
func ticks(d time.Duration) tick {
	return tick(min((d+tickLength-1)/tickLength, time.Duration(never/4)))
}

// NewClock returns a clock that has to be closed.
func NewClock() *Clock {
	c := &Clock{timeouts: usual}
	c.timer = time.AfterFunc(time.Hour, c.turn)
	c.timer.Stop()
	return c
}

// Close has the clock call no more relays, and waits for one that is being called. It is
// not for an Owner to call.
func (c *Clock) Close() {
	c.mu.Lock()
	c.closed = true
	c.timer.Stop()
	c.mu.Unlock()
	c.turning.Lock() // nobody calls
	defer c.turning.Unlock()
}

// call has r called at a tick, or before if it was asked for that.
func (c *Clock) call(r *Relay, at tick) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.due != 0 && r.due <= at {
		return
	}
	c.take(r)
	c.put(r, max(at, c.now+1))
	if !c.busy && (c.wakes == 0 || r.due < c.wakes) {
		c.wakeAt(r.due)
	}
}

// forget is called when r is over.
func (c *Clock) forget(r *Relay) {
	c.mu.Lock()
	c.take(r)
	c.mu.Unlock()
}

// put needs c.mu, as all below but turn.
func (c *Clock) put(r *Relay, at tick) {
	r.due = at
	push(&c.wheel[at%wheelSize], r)
}

func push(list **Relay, r *Relay) {
	r.next = *list
	if r.next != nil {
		r.next.prev = r
	}
	*list = r
}

// take takes r out, wherever it is.
func (c *Clock) take(r *Relay) {
	switch list := &c.wheel[r.due%wheelSize]; {
	case r.due == 0:
		return
	case r.prev != nil:
		r.prev.next = r.next
	case c.due == r:
		c.due = r.next
	default:
		*list = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.next, r.prev, r.due = nil, nil, 0
}

// turn is called when the timer goes off.
func (c *Clock) turn() {
	c.turning.Lock()
	defer c.turning.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = true
	for to := now().tick(); c.now < to && !c.closed; to = now().tick() {
		c.gather(to)
		c.callAll()
	}
	c.busy = false
	c.sleep()
}

// gather finds those that are due up to a tick.
func (c *Clock) gather(to tick) {
	steps := min(to-c.now, wheelSize)
	for at := to - steps + 1; at <= to; at++ {
		for r := c.wheel[at%wheelSize]; r != nil; {
			next := r.next
			if due := r.due; due <= to {
				c.take(r)
				r.due = due
				push(&c.due, r)
			}
			r = next
		}
	}
	c.now = to
}

// callAll calls those that were gathered, and lets go of the lock for that.
func (c *Clock) callAll() {
	for c.due != nil && !c.closed {
		r := c.due
		c.take(r)
		c.mu.Unlock()
		r.look()
		c.mu.Lock()
	}
}

// sleep sets the timer for the next tick at which somebody may be due.
func (c *Clock) sleep() {
	c.wakes = 0
	for at := c.now + 1; at <= c.now+wheelSize; at++ {
		if c.wheel[at%wheelSize] != nil {
			c.wakeAt(at)
			return
		}
	}
}

func (c *Clock) wakeAt(at tick) {
	if c.closed {
		return
	}
	c.wakes = at
	c.timer.Reset(time.Until(at.time()))
}
