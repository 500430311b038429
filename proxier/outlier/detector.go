package outlier

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// Detector finds out which endpoints of one Service port and address family are
// not to be chosen for the moment. It is safe for concurrent use.
type Detector struct {
	prober  *Prober
	udp     bool
	changed func(Change)
	view    atomic.Pointer[view]
	running sync.WaitGroup // checks, probes, and settling

	building sync.Mutex  // held while Pickers are made, before mu
	dirty    atomic.Bool // there may be some to make

	mu        sync.Mutex
	settings  Settings
	closed    bool
	endpoints map[netip.AddrPort]*endpoint // those that there is something to say of, and those remembered
	restored  []EndpointState              // what is to be known from the first Picker on
	sets      []*set                       // by name
	orders    uint64                       // given to those that went out
	news      []Change                     // not told yet
	telling   bool
	unsettled bool // settle is yet to be called
	settling  bool // a goroutine calls it
}

// view is what is asked without a lock. It is never changed.
type view struct {
	endpoints map[netip.AddrPort]*endpoint // those known, as long as they are in a set; nil: none
	sets      []*set
}

// New returns a Detector for endpoints of that protocol, tcp or udp. It knows none
// until Picker names them. changed, if not nil, is told of every endpoint that went
// out or came back, in order, one at a time. It must not block, nor call Close.
func New(p *Prober, protocol string, s Settings, changed func(Change)) *Detector {
	if changed == nil {
		changed = func(Change) {}
	}
	d := &Detector{prober: p, udp: protocol == "udp", changed: changed, settings: s.sane()}
	d.view.Store(&view{})
	return d
}

// Close ends all checks and probes, and waits for them, and for what Report has left to
// do. What is in and out stays as it is.
func (d *Detector) Close() {
	d.mu.Lock()
	d.closed = true
	for _, e := range d.endpoints {
		d.dismiss(e)
	}
	d.mu.Unlock()
	d.running.Wait()
}

// Picker returns a Picker for the ready endpoints of one of the Service port's sets.
// It follows their health: build is called with those that are in use now, and
// again whenever they change, one call at a time. It must not call the Detector.
// When its Picker finds none, one that is left out is picked at random.
//
// A later Picker of the same set replaces this one, which then stays as it is.
// Neither side changes endpoints afterwards. An endpoint that is new to all sets
// begins as one that is in, since Kubernetes says that it is ready.
func (d *Detector) Picker(name string, build func([]balancer.Endpoint) balancer.Picker, endpoints []balancer.Endpoint) balancer.Picker {
	s := &set{name: name, build: build, building: &d.building, endpoints: endpoints, picker: &picker{}}
	d.building.Lock()
	d.mu.Lock()
	now := time.Now()
	d.recall(now)
	d.meet(s, now)
	d.place(s)
	d.sweep(now)
	withheld := d.withheldOf(s)
	d.mu.Unlock()
	s.rebuild(withheld)
	d.mu.Lock()
	d.publish()
	d.mu.Unlock()
	d.building.Unlock()
	d.settle()
	return s.picker
}

// Report tells the outcome of a connection to an endpoint, nil if it was there. It
// is to be called once for each, and not for one that was given up for reasons of
// our own; errors that are clearly such are ignored. A good one costs no lock if
// nothing speaks against the endpoint. It does not wait for build, nor for who is told of
// changes: what follows from it is done at once, by another goroutine.
func (d *Detector) Report(addr netip.AddrPort, err error) {
	e := d.view.Load().endpoints[addr]
	if err == nil && (e == nil || !e.suspect.Load()) || err != nil && isOurs(err) {
		return
	}
	d.mu.Lock()
	now := time.Now()
	if e == nil {
		e = d.meetFailing(addr, now)
	}
	if e != nil && !d.closed && e.left.IsZero() && d.change(e, now, ByConnections, func() {
		if err == nil {
			e.admit(now)
		} else {
			e.connectionFailed(d.settings.Passive, now, err)
		}
	}) {
		d.settleSoon()
	}
	d.mu.Unlock()
}

// Out says whether an endpoint is withheld from that set. It takes no lock.
func (d *Detector) Out(set string, addr netip.AddrPort) bool {
	for _, s := range d.view.Load().sets {
		if s.name == set {
			return s.picker.now.Load().withheld[addr]
		}
	}
	return false
}

// Set changes the settings. What is known of the endpoints stays, but for what the
// new settings have no use for.
func (d *Detector) Set(s Settings) {
	s = s.sane()
	d.mu.Lock()
	old := d.settings
	if d.closed || s.equal(old) {
		d.mu.Unlock()
		return
	}
	d.settings = s
	now := time.Now()
	for _, e := range d.endpoints {
		d.change(e, now, BySettings, func() { d.adapt(e, old, now) })
	}
	if s.Check.Kind != CheckOff && old.Check.Kind == CheckOff {
		for _, s := range d.sets {
			d.meet(s, now)
		}
		d.publish()
	}
	d.mu.Unlock()
	d.settle()
}

// adapt makes of what is known of an endpoint what it means by the new settings.
func (d *Detector) adapt(e *endpoint, old Settings, now time.Time) {
	p, c := d.settings.Passive, d.settings.Check
	if p.Failures == 0 {
		e.admit(now)
		e.ejections = 0
	}
	if limit := now.Add(p.Max); e.until.After(limit) {
		e.until = limit
	}
	if !c.asksLike(old.Check) {
		e.forgetChecks(c.Kind != CheckOff)
	}
	e.good, e.bad = min(e.good, c.Rise), min(e.bad, c.Fall)
	if !c.equal(old.Check) || d.settings.ProxyProtocol != old.ProxyProtocol {
		d.dismiss(e)
		d.hire(e, now)
	}
}

// publish shows the present state to those that ask without a lock. The caller holds
// it.
func (d *Detector) publish() {
	v := &view{endpoints: maps.Clone(d.endpoints), sets: d.sets}
	maps.DeleteFunc(v.endpoints, func(_ netip.AddrPort, e *endpoint) bool { return !e.left.IsZero() })
	d.view.Store(v)
}

// place puts a set where one of its name was. The list is never changed: others read
// it without a lock.
func (d *Detector) place(s *set) {
	sets := slices.DeleteFunc(slices.Clone(d.sets), func(other *set) bool { return other.name == s.name })
	i, _ := slices.BinarySearchFunc(sets, s.name, func(s *set, name string) int { return strings.Compare(s.name, name) })
	d.sets = slices.Insert(sets, i, s)
}

// settle makes the Pickers that a change asks for, and tells of it. Whoever finds
// another goroutine at it leaves the work to that one.
func (d *Detector) settle() {
	d.dirty.Store(true)
	for d.dirty.Load() && d.building.TryLock() {
		d.dirty.Store(false)
		d.rebuild()
		d.building.Unlock()
	}
	d.tell()
}

// settleSoon has settle called by a goroutine, which serves all that happens until it is
// done: there is one at most. The caller holds d.mu, and the Detector is not closed.
func (d *Detector) settleSoon() {
	d.unsettled = true
	if !d.settling {
		d.settling = true
		d.running.Go(d.settleAll)
	}
}

func (d *Detector) settleAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.unsettled {
		d.unsettled = false
		d.mu.Unlock()
		d.settle()
		d.mu.Lock()
	}
	d.settling = false
}

// rebuild makes the Pickers of the sets that withhold others than before.
func (d *Detector) rebuild() {
	d.mu.Lock()
	todo := map[*set][]*endpoint{}
	for _, s := range d.sets {
		if withheld := d.withheldOf(s); !slices.Equal(withheld, s.built) {
			todo[s] = withheld
		}
	}
	d.mu.Unlock()
	for s, withheld := range todo {
		s.rebuild(withheld)
	}
}
