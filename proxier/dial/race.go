package dial

import (
	"context"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// race is a search in which attempts may run beside each other.
type race struct {
	*search
	running []*runner
	ended   chan *runner // has room for all
	next    *time.Timer  // for another attempt
	armed   bool         // next is running

	mu   sync.Mutex
	over bool // nobody reads ended any more
}

// runner is an attempt with a goroutine of its own.
type runner struct {
	*attempt
	cancel context.CancelFunc
	kept   bool // in the background, of the race's mu
}

// race makes another attempt whenever one has failed, or has had no answer for
// Retry.Hedge. The first that succeeds ends it.
func (s *search) race() bool {
	r := &race{search: s, ended: make(chan *runner, s.Retry.Attempts), next: time.NewTimer(s.Retry.Total)}
	defer r.end()
	total := time.NewTimer(time.Until(s.deadline))
	defer total.Stop()
	cancelled := s.ctx.Done()
	for r.start(); len(r.running) > 0 || r.armed; {
		select {
		case a := <-r.ended:
			if r.finished(a) {
				return true
			}
		case <-r.next.C:
			r.start()
		case <-total.C:
			for len(r.ended) > 0 { // in time, however late it is heard of
				if r.finished(<-r.ended) {
					return true
				}
			}
			r.timeout()
			return false
		case <-cancelled:
			cancelled = nil
			r.disarm()
			for _, a := range r.running {
				a.cancel()
			}
		}
	}
	return false
}

// start begins an attempt if there is one, and has another follow if it takes
// long. Where there is none, those under way are awaited.
func (r *race) start() {
	r.disarm()
	a := r.search.next()
	if a == nil {
		return
	}
	a.limit, a.full = a.start.Add(r.Retry.Timeout), true // it may outlive the search
	a.hedged = len(r.running) > 0
	r.run(&runner{attempt: a})
	// Where a client is bound to an endpoint, a slow answer is no reason to bind it to
	// another.
	if a.pick.Affinity == balancer.AffinityNone {
		r.arm(r.Retry.Hedge)
	}
}

func (r *race) run(a *runner) {
	r.running = append(r.running, a)
	b := r.dialer.background
	if !b.enter() {
		a.cancel = func() {}
		a.attempt.end(nil, context.Canceled)
		r.ended <- a
		return
	}
	ctx, cancel := context.WithCancel(b.ctx)
	a.cancel = cancel
	go func() {
		defer b.leave()
		defer cancel()
		a.attempt.run(ctx, r.dialer.connect)
		if !r.hand(a) {
			r.settleLate(a)
		}
	}()
}

// hand gives an attempt that has ended to the search; false if that is over.
func (r *race) hand(a *runner) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.ended <- a
	}
	return !r.over
}

// finished takes note of an attempt that has ended, and returns true if it has
// succeeded.
func (r *race) finished(a *runner) bool {
	r.running = slices.DeleteFunc(r.running, func(b *runner) bool { return a == b })
	if a.err == nil {
		r.noteRunning(observe.Superseded)
		r.found(a.attempt)
		return true
	}
	switch pause, again := r.failed(a.attempt); {
	case !again:
		r.disarm()
	case pause > 0:
		r.arm(pause)
	default:
		r.start()
	}
	return false
}

// timeout ends the search with what is under way.
func (r *race) timeout() {
	r.noteRunning(observe.ConnectTimeout)
	for _, a := range r.running {
		r.last = failure(a.addr(), os.ErrDeadlineExceeded)
	}
}

// noteRunning tells of attempts that the search does not wait for.
func (r *race) noteRunning(result observe.Reason) {
	for _, a := range r.running {
		r.result.Attempts = append(r.result.Attempts, a.entry(time.Since(a.start), result, nil))
	}
}

// end leaves the attempts that are still under way to themselves. So that an
// endpoint that is silent is found out although others are faster, they go on in
// the background, if there are not too many.
func (r *race) end() {
	r.next.Stop()
	r.mu.Lock()
	r.over = true
	for _, a := range r.running {
		if a.kept = r.dialer.background.keep(); !a.kept {
			a.cancel()
		}
	}
	r.mu.Unlock()
	for len(r.ended) > 0 {
		r.settleLate(<-r.ended)
	}
}

// settleLate settles an attempt that the search has not waited for. Nobody
// above would recover from a panic.
func (r *race) settleLate(a *runner) {
	defer func() {
		if a.kept {
			r.dialer.background.unkeep()
		}
		if r.dialer.Panicked == nil {
			return
		}
		if value := recover(); value != nil {
			r.dialer.Panicked(value, debug.Stack())
		}
	}()
	a.settle()
}

func (r *race) arm(d time.Duration) {
	r.next.Reset(d)
	r.armed = true
}

func (r *race) disarm() {
	r.next.Stop()
	r.armed = false
}
