package load

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// A Load is everybody who talks through usher at the same time.
type Load struct {
	Services              // that it is for
	Answered atomic.Int64 // requests
	Asked    atomic.Int64 // datagrams
	Replied  atomic.Int64
	Moved    atomic.Int64 // bytes of streams that have arrived

	Failed Faults // new connections without an answer
	Broken Faults // connections that ended, or on which something else came than was sent
	Lost   Faults // datagrams without an answer, or with two
	Wrong  Faults // whoever was led where he should not be

	site       *Site
	work       sync.WaitGroup
	mu         sync.Mutex
	over       chan struct{} // closed when nobody is to begin anything any more
	streams    []*stream
	statements []*statement
	gap        longest                   // in which a stream that is read all the time got nothing
	delay      longest                   // of the answer on a new connection
	killed     atomic.Pointer[time.Time] // since when usher, if it was killed, accepts nothing
}

// Faults are of one kind.
type Faults struct {
	mu    sync.Mutex
	count int
	first []string
}

// Count is how many there are so far.
func (f *Faults) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// String has the first of them.
func (f *Faults) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.first, "\n")
}

func newLoad(s *Site) *Load {
	l := &Load{Services: NewServices(s), site: s, over: make(chan struct{})}
	s.t.Cleanup(l.End)
	return l
}

// End waits until everybody has ended. It may be called any number of times.
func (l *Load) End() {
	l.mu.Lock()
	if !l.ending() {
		close(l.over)
	}
	l.mu.Unlock()
	l.work.Wait()
}

func (l *Load) ending() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// enough of the faults are told: what one upgrade breaks, it breaks for many.
const enough = 10

func (f *Faults) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; f.count <= enough {
		f.first = append(f.first, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

// Tell ends the load, and fails the test with what was noted.
func (l *Load) Tell() {
	l.site.t.Helper()
	l.End()
	for _, kind := range []*Faults{&l.Failed, &l.Broken, &l.Lost, &l.Wrong} {
		kind.mu.Lock()
		for _, one := range kind.first {
			l.site.t.Error(one)
		}
		if more := kind.count - len(kind.first); more > 0 {
			l.site.t.Errorf("and %d more", more)
		}
		kind.mu.Unlock()
	}
	if min(l.Answered.Load(), l.Replied.Load(), l.Moved.Load()) == 0 {
		l.site.t.Error("a part of the load has done nothing")
	}
}

// Flows waits until something has come since now of all that goes on all the time.
func (l *Load) Flows() {
	l.site.t.Helper()
	answered, replied, moved := l.Answered.Load()+10, l.Replied.Load()+10, l.Moved.Load()+1<<20
	netns.EventuallyWithin(l.site.t, patience, "the load goes on", func() error {
		if a, r, m := l.Answered.Load(), l.Replied.Load(), l.Moved.Load(); a < answered || r < replied || m < moved {
			return fmt.Errorf("%d requests of %d, %d datagrams of %d, %d bytes of %d", a, answered, r, replied, m, moved)
		}
		return nil
	})
}

// Slowest is the longest that a new connection has waited for its answer since this was called
// last.
func (l *Load) Slowest() time.Duration { return l.delay.take() }

// Pause returns early when the load ends.
func (l *Load) Pause(d time.Duration) {
	select {
	case <-l.over:
	case <-time.After(d):
	}
}

// every calls f again and again until the load ends, each time in a goroutine of its own.
func (l *Load) every(interval time.Duration, f func(n int)) {
	l.work.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-l.over:
				return
			case <-tick.C:
				l.work.Go(func() { f(n) })
			}
		}
	})
}

// lifetime bounds every connection of a load.
const lifetime = 10 * time.Minute

// dial connects to a Service from a client's namespace.
func dial(from *netns.NS, to *Service, six bool) (*net.TCPConn, error) {
	c, err := from.Dial("tcp", to.Addr(six).String())
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(lifetime))
	return c.(*net.TCPConn), nil
}

// longest is the longest of some times.
type longest struct{ atomic.Int64 }

func (l *longest) note(d time.Duration) {
	for {
		was := l.Load()
		if int64(d) <= was || l.CompareAndSwap(was, int64(d)) {
			return
		}
	}
}

// take returns it, and begins anew.
func (l *longest) take() time.Duration { return time.Duration(l.Swap(0)) }
