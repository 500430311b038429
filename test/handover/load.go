package handover

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// A load is everybody who talks through usher at the same time.
type load struct {
	site *site
	work sync.WaitGroup
	over chan struct{} // closed when nobody is to begin anything any more

	gap   longest // in which a stream that is read all the time got nothing
	delay longest // of the answer on a new connection

	answered atomic.Int64 // requests
	asked    atomic.Int64 // datagrams
	replied  atomic.Int64

	failed faults // new connections without an answer
	broken faults // connections that ended, or on which something else came than was sent
	lost   faults // datagrams without an answer, or with two
	wrong  faults // whoever was led where he should not be

	mu sync.Mutex
}

// faults are of one kind.
type faults struct {
	mu    sync.Mutex
	count int
	first []string
}

func newLoad(s *site) *load {
	l := &load{site: s, over: make(chan struct{})}
	s.t.Cleanup(l.end)
	return l
}

// end waits until everybody has ended. It may be called any number of times.
func (l *load) end() {
	l.mu.Lock()
	if !l.ending() {
		close(l.over)
	}
	l.mu.Unlock()
	l.work.Wait()
}

func (l *load) ending() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// enough of the faults are told: what one upgrade breaks, it breaks for many.
const enough = 10

func (f *faults) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; f.count <= enough {
		f.first = append(f.first, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

// tell fails the test with what was noted.
func (l *load) tell() {
	l.site.t.Helper()
	for _, kind := range []*faults{&l.failed, &l.broken, &l.lost, &l.wrong} {
		kind.mu.Lock()
		for _, one := range kind.first {
			l.site.t.Error(one)
		}
		if more := kind.count - len(kind.first); more > 0 {
			l.site.t.Errorf("and %d more", more)
		}
		kind.mu.Unlock()
	}
}

// every calls f again and again until the load ends, each time in a goroutine of its own.
func (l *load) every(interval time.Duration, f func(n int)) {
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
func dial(from *netns.NS, to *service, six bool) (*net.TCPConn, error) {
	c, err := from.Dial("tcp", to.addr(six).String())
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
