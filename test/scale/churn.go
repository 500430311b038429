package scale

import (
	"sync"
	"time"
)

const (
	churners = 8 // writers of changes
	lifetime = 8 // how many Services there are more at a time
)

// measureChurn changes Services and EndpointSlices at a steady rate, while new clients of the
// last Service, which stays as it is, come at another one.
func (s *site) measureChurn(p *proxy, f *figures) {
	s.t.Helper()
	before, start := p.usage(), time.Now()
	var asked *tally
	var asking sync.WaitGroup
	asking.Go(func() { asked = askSteadily(p.node.client.NS, s.last().vip(), s.asking, s.churn) })
	written := s.change()
	changing := time.Since(start)
	asking.Wait()

	f.add(churnCPU, 100*(p.usage().cpu-before.cpu).Seconds()/time.Since(start).Seconds())
	f.add(churnChanges, float64(len(written.took))/changing.Seconds())
	f.add(churnAsked, float64(len(asked.took)+len(asked.failures)))
	f.add(churnFailed, float64(len(asked.failures)))
	for _, d := range asked.took {
		f.add(churnLatency, ms(d))
	}
	for _, t := range []*tally{asked, written} {
		for _, err := range t.failures[:min(3, len(t.failures))] {
			s.tell("%s: failed during the churn: %v", f.proxy, err)
		}
	}
	s.tell("%s: %.0f changes/s, %.0f of %.0f connections failed", f.proxy, f.value(churnChanges), f.value(churnFailed), f.value(churnAsked))
}

// change makes the changes of a churn, and then removes what they have left.
func (s *site) change() *tally {
	s.t.Helper()
	var t tally
	var all sync.WaitGroup
	first := s.next
	due := make(chan func() error, s.changing)
	for range churners {
		all.Go(func() {
			for write := range due {
				begun := time.Now()
				err := write()
				t.add(time.Since(begun), err)
			}
		})
	}
	steadily(s.changing, s.churn, func(i int, _ time.Time) { due <- s.nth(i, first) })
	close(due)
	all.Wait()
	s.must(inParallel(max(first, s.next-lifetime-1), s.next, s.remove))
	return &t
}

// nth is one of the changes of a churn: in turns a new Service with its slice, an older one less
// with its slice, and other endpoints for some that stay.
func (s *site) nth(i int, first number) func() error {
	turn, step := i/6, i%6
	newest := first + number(turn)
	oldest := newest - lifetime
	s.next = newest + 1
	switch {
	case step == 0:
		return func() error { return s.store.create(newest.slice("", 0)) }
	case step == 2:
		return func() error { return s.store.create(newest.service("")) }
	case step == 3 && oldest >= first:
		return func() error { return s.store.delete(oldest.service("")) }
	case step == 5 && oldest >= first:
		return func() error { return s.store.delete(oldest.slice("", 0)) }
	}
	n := number(i % (s.services - 1))
	slice := n.slice("", s.moved(n))
	return func() error { return s.store.replace(slice) }
}
