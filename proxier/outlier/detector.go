package outlier

import (
	"maps"
	"net/netip"
	"slices"
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
	running sync.WaitGroup // checks and probes

	building sync.Mutex  // held while Pickers are made, before mu
	dirty    atomic.Bool // there may be some to make

	mu        sync.Mutex
	settings  Settings
	closed    bool
	endpoints map[netip.AddrPort]*endpoint // those of all sets, and those remembered
	sets      map[string]*set
	orders    uint64   // given to those that went out
	news      []Change // not told yet
	telling   bool
}

// view is what is asked without a lock. It is never changed.
type view struct {
	endpoints map[netip.AddrPort]*endpoint
	pickers   map[string]*picker
}

// New returns a Detector for endpoints of that protocol, tcp or udp. It knows none
// until Picker names them. changed, if not nil, is told of every endpoint that went
// out or came back, in order, one at a time. It must not block, nor call Close.
func New(p *Prober, protocol string, s Settings, changed func(Change)) *Detector {
	if changed == nil {
		changed = func(Change) {}
	}
	d := &Detector{prober: p, udp: protocol == "udp", changed: changed, settings: s.sane(),
		endpoints: map[netip.AddrPort]*endpoint{}, sets: map[string]*set{}}
	d.view.Store(&view{})
	return d
}

// Close ends all checks and probes, and waits for them. What is in and out stays as
// it is.
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
	s := &set{build: build, endpoints: endpoints, picker: &picker{}}
	d.building.Lock()
	d.mu.Lock()
	now := time.Now()
	s.members = make([]*endpoint, len(endpoints))
	for i, e := range endpoints {
		s.members[i] = d.member(e.Addr, now)
	}
	d.sets[name] = s
	d.sweep(now)
	withheld := s.withheld(d.settings.Passive)
	d.mu.Unlock()
	s.rebuild(withheld)
	d.publish()
	d.building.Unlock()
	d.settle()
	return s.picker
}

// Report tells the outcome of a connection to an endpoint, nil if it was there. It
// is to be called once for each, and not for one that was given up for reasons of
// our own; errors that are clearly such are ignored. A good one costs no lock if
// nothing speaks against the endpoint. The one that ejects an endpoint calls build.
func (d *Detector) Report(addr netip.AddrPort, err error) {
	e := d.view.Load().endpoints[addr]
	if e == nil || err == nil && !e.suspect.Load() || err != nil && isOurs(err) {
		return
	}
	d.mu.Lock()
	now := time.Now()
	changed := !d.closed && e.left.IsZero() && d.change(e, now, ByConnections, func() {
		if err == nil {
			e.admit(now)
		} else {
			e.connectionFailed(d.settings.Passive, now, err)
		}
	})
	d.mu.Unlock()
	if changed {
		d.settle()
	}
}

// Out says whether an endpoint is withheld from that set. It takes no lock.
func (d *Detector) Out(set string, addr netip.AddrPort) bool {
	p := d.view.Load().pickers[set]
	return p != nil && p.now.Load().withheld[addr]
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

// publish shows the present members to those that ask without a lock.
func (d *Detector) publish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := &view{endpoints: maps.Clone(d.endpoints), pickers: map[string]*picker{}}
	maps.DeleteFunc(v.endpoints, func(_ netip.AddrPort, e *endpoint) bool { return !e.left.IsZero() })
	for name, s := range d.sets {
		v.pickers[name] = s.picker
	}
	d.view.Store(v)
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

// rebuild makes the Pickers of the sets that withhold others than before.
func (d *Detector) rebuild() {
	d.mu.Lock()
	todo := map[*set][]*endpoint{}
	for _, s := range d.sets {
		if withheld := s.withheld(d.settings.Passive); !slices.Equal(withheld, s.built) {
			todo[s] = withheld
		}
	}
	d.mu.Unlock()
	for s, withheld := range todo {
		s.rebuild(withheld)
	}
}
