package outlier

import (
	"container/heap"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxRunning is how many checks run at once: each holds a file descriptor.
	maxRunning = 64
	// lateAfter is the delay by which a check counts as late.
	lateAfter = time.Second
)

// Prober makes the checks and probes of all Detectors. One goroutine keeps the
// times, and at most 64 checks run at once: when that is too little they are made
// later, those that wait for the longest first, and counted as late. It is safe
// for concurrent use.
type Prober struct {
	dial  DialFunc
	ctx   context.Context
	stop  context.CancelFunc
	wake  chan struct{} // something changed that the goroutine waits for
	ended sync.WaitGroup

	mu    sync.Mutex
	queue queue
	stats Stats
}

// Stats are what a Prober does and has done.
type Stats struct {
	Waiting int // checks and probes that are planned; an endpoint has one at most
	Running int
	// The others only grow.
	Good    uint64 // the endpoint was well
	Bad     uint64 // it was not
	Unknown uint64 // nothing was learnt: it was cancelled, or the fault was this process's own
	Late    uint64 // of all these, begun more than a second after their time
}

// NewProber returns a Prober that connects by dial, or without it as net.Dialer
// does. It runs until Close.
func NewProber(dial DialFunc) *Prober {
	if dial == nil {
		dial = func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, to.String())
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Prober{dial: dial, ctx: ctx, stop: stop, wake: make(chan struct{}, 1)}
	p.ended.Go(p.run)
	return p
}

// Close cancels the checks that run, waits for them, and makes no more.
func (p *Prober) Close() {
	p.mu.Lock()
	p.stop() // under the lock: no check begins after it
	p.mu.Unlock()
	p.ended.Wait()
}

// Stats returns the present numbers.
func (p *Prober) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Waiting = len(p.queue)
	return s
}

// task asks one endpoint again and again, whenever it is told to.
type task struct {
	ask   func(context.Context) error
	done  func(begun time.Time, err error) // told of the outcome, unless it is cancelled
	group *sync.WaitGroup                  // counts it while it runs

	// The Prober's lock guards these.
	at        time.Time
	place     int // in the queue from 1; 0: not in it
	cancel    context.CancelFunc
	cancelled bool
}

// plan makes a task be done at that time and not at the one it was planned for. While
// it runs this has no effect: its done plans again.
func (p *Prober) plan(t *task, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.cancelled || t.cancel != nil || p.ctx.Err() != nil {
		return
	}
	t.at = at
	if t.place > 0 {
		heap.Fix(&p.queue, t.place-1)
	} else {
		heap.Push(&p.queue, t)
	}
	if t.place == 1 {
		p.poke()
	}
}

// rest takes a task off the queue, if it does not run.
func (p *Prober) rest(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.place > 0 {
		heap.Remove(&p.queue, t.place-1)
	}
}

// cancel ends a task for good. It does not wait for it.
func (p *Prober) cancel(t *task) {
	p.rest(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	t.cancelled = true
	if t.cancel != nil {
		t.cancel()
	}
}

func (p *Prober) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Prober) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-timer.C:
		case <-p.wake:
		}
		if wait, any := p.begin(time.Now()); any {
			timer.Reset(wait)
		}
	}
}

// begin starts what is due, as far as there is room. It returns how long the next
// one has to wait; false if something else will wake the goroutine.
func (p *Prober) begin(now time.Time) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 && p.stats.Running < maxRunning && p.ctx.Err() == nil {
		t := p.queue[0]
		if wait := t.at.Sub(now); wait > 0 {
			return wait, true
		}
		heap.Pop(&p.queue)
		if now.Sub(t.at) > lateAfter {
			p.stats.Late++
		}
		p.stats.Running++
		ctx, cancel := context.WithCancel(p.ctx)
		t.cancel = cancel
		t.group.Add(1)
		p.ended.Go(func() { p.do(ctx, t, now) })
	}
	return 0, false
}

// do does a task once.
func (p *Prober) do(ctx context.Context, t *task, begun time.Time) {
	defer t.group.Done()
	err := t.ask(ctx)
	p.mu.Lock()
	p.stats.Running--
	switch {
	case err == nil:
		p.stats.Good++
	case isOurs(err):
		p.stats.Unknown++
	default:
		p.stats.Bad++
	}
	t.cancel()
	t.cancel = nil
	cancelled := t.cancelled
	p.mu.Unlock()
	p.poke() // there is room for another one
	if !cancelled {
		t.done(begun, err)
	}
}

// queue is a heap (container/heap) of tasks by their time.
type queue []*task

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i+1, j+1
}

func (q *queue) Push(t any) {
	*q = append(*q, t.(*task))
	t.(*task).place = len(*q)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	t.place = 0
	(*q)[last] = nil
	*q = (*q)[:last]
	return t
}
