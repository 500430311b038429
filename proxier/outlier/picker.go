package outlier

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/usher-proxy/usher/balancer"
)

// picker follows the health of its set.
type picker struct{ now atomic.Pointer[choice] }

// choice is a set as it is for the moment. It is never changed.
type choice struct {
	in       balancer.Picker
	last     balancer.Picker // chooses among the withheld, nil if there are none
	withheld map[netip.AddrPort]bool
	all      func() balancer.Picker // of the whole set; nil if none is withheld
}

// Pick asks for one that is in, or if all those were tried, for any other.
func (p *picker) Pick(r balancer.Request) (balancer.Pick, error) {
	c := p.now.Load()
	pick, err := c.in.Pick(r)
	if err != nil && c.last != nil {
		return c.last.Pick(r)
	}
	return pick, err
}

// Choose tells the Picker behind it, if that is to know (balancer.Chooser), also of an
// endpoint that is left out: connections that it has still count when it comes back. The
// first of these waits until build is done.
func (p *picker) Choose(e balancer.Endpoint) balancer.Pick {
	c := p.now.Load()
	chooser, ok := c.in.(balancer.Chooser)
	if ok && c.withheld[e.Addr] {
		chooser, ok = c.all().(balancer.Chooser)
	}
	if !ok {
		return balancer.Pick{Endpoint: e}
	}
	return chooser.Choose(e)
}

// set is one of the sets of endpoints of a Service port, such as those of this
// node. Its fields do not change, but for built and picker.now, which belong to
// whoever holds Detector.building.
type set struct {
	name      string
	build     func([]balancer.Endpoint) balancer.Picker
	building  *sync.Mutex // the Detector's
	endpoints []balancer.Endpoint
	picker    *picker
	built     []*endpoint // what was withheld when its Picker was made
}

// most is how many of the set may be withheld. A share such as 0.29 of 100 is not
// to become 28 by what floats lack.
func (s *set) most(p Passive) int {
	n := len(s.endpoints)
	return max(min(int(p.MaxEjected*float64(n)+1e-9), n-1), 0)
}

// withheldOf are those of a set who have been out for the longest, as many as may be.
func (d *Detector) withheldOf(s *set) []*endpoint {
	out := d.outOf(s)
	slices.SortFunc(out, func(a, b *endpoint) int {
		if a.order < b.order {
			return -1
		}
		return 1
	})
	return out[:min(len(out), s.most(d.settings.Passive))]
}

// outOf are all those of a set who are out.
func (d *Detector) outOf(s *set) (out []*endpoint) {
	if len(d.endpoints) == 0 {
		return nil
	}
	for i := range s.endpoints {
		if e := d.endpoints[s.endpoints[i].Addr]; e != nil && e.out() {
			out = append(out, e)
		}
	}
	return out
}

// rebuild makes the Picker for when these are withheld.
func (s *set) rebuild(withheld []*endpoint) {
	c := &choice{}
	in := s.endpoints
	if len(withheld) > 0 {
		c.withheld = make(map[netip.AddrPort]bool, len(withheld))
		for _, e := range withheld {
			c.withheld[e.addr] = true
		}
		in = make([]balancer.Endpoint, 0, len(s.endpoints)-len(withheld))
		out := make([]balancer.Endpoint, 0, len(withheld))
		for _, e := range s.endpoints {
			if c.withheld[e.Addr] {
				out = append(out, e)
			} else {
				in = append(in, e)
			}
		}
		c.last = lastResort.Picker(out)
		c.all = sync.OnceValue(s.buildAll)
	}
	c.in = s.build(in)
	s.built = withheld
	s.picker.now.Store(c)
}

// buildAll makes a Picker that leaves nobody out.
func (s *set) buildAll() balancer.Picker {
	s.building.Lock()
	defer s.building.Unlock()
	return s.build(s.endpoints)
}

// lastResort remembers nothing, so that one does for all.
var lastResort = func() balancer.Policy {
	policy, err := balancer.New("random")
	if err != nil {
		panic(err) // it is built in
	}
	return policy
}()
