package scale

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// changePatience bounds a change, until it takes effect.
const changePatience = 30 * time.Second

// eachChange lets a change happen, again and again with pauses, until it was often enough or
// took long enough.
func (s *site) eachChange(f func() error) {
	s.t.Helper()
	for i, begun := 0, time.Now(); i < s.changes && time.Since(begun) < s.changeTime; i++ {
		s.must(f())
		time.Sleep(s.pause)
	}
}

// effect writes a change, and at the same time looks for it at a VIP. It returns how long the
// API server has taken to answer, and how long it took until the answers were as wanted: both
// from the moment that the change is sent.
func effect(n *node, vip netip.AddrPort, write func() error, wanted func(netip.Addr) bool) (api, seen time.Duration, err error) {
	start := time.Now()
	written := make(chan error, 1)
	go func() {
		err := write()
		api = time.Since(start)
		written <- err
	}()
	at, err := awaitAnswer(n.client.NS, vip, changePatience, wanted)
	if failed := <-written; failed != nil {
		err = failed
	}
	return api, at.Sub(start), err
}

// measureAdded adds one Service after the other, whose endpoints are known already, and removes
// them in the end.
func (s *site) measureAdded(p *proxy, f *figures) {
	s.t.Helper()
	first := s.next
	s.eachChange(func() error {
		n := s.next
		s.next++
		if err := s.store.create(n.slice("", 0)); err != nil {
			return err
		}
		api, seen, err := effect(p.node, n.vip(), func() error { return s.store.create(n.service("")) }, anyAnswer)
		f.add(addedAPI, ms(api))
		f.add(added, ms(seen))
		return err
	})
	s.must(inParallel(first, s.next, s.remove))
	for n := first; n < s.next; n++ { // what is measured next is not to wait for this
		s.must(awaitNobody(p.node.client.NS, n.vip(), changePatience))
	}
	s.tell("%s: %d Services added, each answers after %.0f ms (p50), %.0f ms (p99)", f.proxy, len(f.Samples[added]), f.percentile(added, 50), f.percentile(added, 99))
}

// measureChanged gives one Service after the other new endpoints. It counts the answers of old
// ones after the first new one.
func (s *site) measureChanged(p *proxy, f *figures) {
	s.t.Helper()
	var old int
	s.must(s.changeOnce(p)) // what was measured before may have left something to do
	s.eachChange(func() error {
		n := number(rand.IntN(s.services - 1))
		to := s.moved(n)
		wanted := func(from netip.Addr) bool { return generationOf(from) == to }
		api, seen, err := effect(p.node, n.vip(), func() error { return s.store.replace(n.slice("", to)) }, wanted)
		if err != nil {
			return fmt.Errorf("the endpoints of %s: %w", n.name(), err)
		}
		f.add(changedAPI, ms(api))
		f.add(changed, ms(seen))
		more, err := unwanted(p.node, n.vip(), wanted)
		old += more
		return err
	})
	f.add(stale, float64(old))
	s.tell("%s: %d Services with new endpoints, which answer after %.0f ms (p50), %.0f ms (p99)", f.proxy, len(f.Samples[changed]), f.percentile(changed, 50), f.percentile(changed, 99))
}

// changeOnce changes the endpoints of a Service, and waits for that.
func (s *site) changeOnce(p *proxy) error {
	n := number(0)
	to := s.moved(n)
	_, _, err := effect(p.node, n.vip(), func() error { return s.store.replace(n.slice("", to)) }, func(from netip.Addr) bool { return generationOf(from) == to })
	return err
}

// moved makes a Service change its generation, and returns the new one.
func (s *site) moved(n number) generation {
	to := 1 - s.generations[n]
	s.generations[n] = to
	return to
}

// unwanted asks once for each endpoint and counts the answers that are not as wanted.
func unwanted(n *node, vip netip.AddrPort, wanted func(netip.Addr) bool) (count int, err error) {
	n.client.Do(func() {
		for range perService {
			var from netip.Addr
			if from, err = ask(vip); err != nil {
				return
			}
			if !wanted(from) {
				count++
			}
		}
	})
	return count, err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
