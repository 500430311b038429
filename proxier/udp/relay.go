package udp

import (
	"context"
	"sync"
	"time"
)

// Config is what a Relay needs. All fields are required unless they say
// otherwise.
type Config struct {
	// Mark is that of our sockets (SO_MARK), 0 for none.
	Mark int
	// Loops is how many goroutines move datagrams.
	Loops int
	// Readers is how many of them read one Socket, at most Loops.
	Readers int
	// Limit is how many sessions there may be in all; it is asked for each new one.
	Limit func() int
}

// Relay moves datagrams. It is safe for concurrent use.
type Relay struct {
	cfg   Config
	table *Table
	loops []*loop

	mu   sync.Mutex
	next int // loop for the next Socket

	stop    context.CancelFunc
	sweeper sync.WaitGroup
}

// New starts a Relay. Close ends it.
func New(cfg Config) (*Relay, error) {
	ctx, stop := context.WithCancel(context.Background())
	r := &Relay{cfg: cfg, table: newTable(cfg.Limit), stop: stop}
	refusals := newRefusals()
	for range cfg.Loops {
		l, err := newLoop(r.table, refusals, cfg.Mark)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.loops = append(r.loops, l)
	}
	r.sweeper.Go(func() { r.table.sweep(ctx) })
	return r, nil
}

// Group returns a new group of sessions with limits of its own.
func (r *Relay) Group(l Limits) *Group { return r.table.group(l) }

// Len is how many sessions there are.
func (r *Relay) Len() int { return r.table.Len() }

// Readers is how many files a new Socket is read from, beside its own.
func (r *Relay) Readers() int { return min(r.cfg.Readers, len(r.loops)) }

// nextLoops are the loops for n readers of a Socket.
func (r *Relay) nextLoops(n int) (loops []*loop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range n {
		loops = append(loops, r.loops[r.next%len(r.loops)])
		r.next++
	}
	return loops
}

// Drain waits until no client waits for a reply, as far as that can be told: who
// has sent something and got nothing since, but not for longer than patience.
func (r *Relay) Drain(ctx context.Context, patience time.Duration) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for r.waiting(patience) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// waiting counts the clients that have sent something and got nothing since, but
// not for longer than patience.
func (r *Relay) waiting(patience time.Duration) (n int) {
	for _, l := range r.loops {
		l.do(func() {
			for _, f := range l.files {
				if s, ok := f.(*session); ok && s.waits(patience) {
					n++
				}
			}
		})
	}
	return n
}

// Close ends all loops. The Sockets have to be closed or released before.
func (r *Relay) Close() {
	r.stop()
	r.sweeper.Wait()
	for _, l := range r.loops {
		l.close()
	}
}

// sweep ends the sessions whose time is over, until ctx is done.
func (t *Table) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, e := range t.expired(t.now()) {
				s := e.session
				s.reader.post(s.expire)
			}
		}
	}
}
