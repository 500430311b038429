package proxier

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/proxier/source"
)

// planner computes the desired state in each pass, and takes from the pass before
// what cannot have changed. What is desired of a Service follows from
//
//   - the Service and its EndpointSlices: the same pointers are the same objects;
//   - the facts of this node;
//   - who else claims its frontends;
//   - whether an address of its endpoints is one that this process serves.
//
// A plan is made anew when any of these has changed for it. The result is that of a
// planner that knows nothing yet, in every detail, but for this: a Port that is the
// same as in the pass before is also the same pointer.
//
// It belongs to the reconcile loop; only slicesOf is safe for concurrent use.
type planner struct {
	facts    facts
	claims   *claims
	services turnover[*corev1.Service]
	slices   turnover[*discoveryv1.EndpointSlice]
	ignored  map[*discoveryv1.EndpointSlice][]Problem // and what they are told for
	order    []*plan                                  // of Services that are served, the oldest first
	stale    []*plan                                  // to be made anew in this pass
	last     *desired
	work     *desired // of the Service that is being computed
	scratch  pool

	mu    sync.RWMutex // for changes of plans, and of the slices in them
	plans map[serviceName]*plan
}

// plan is what is desired of one Service, and what that was computed from.
type plan struct {
	name    serviceName
	service *corev1.Service              // nil if there are only slices of it
	slices  []*discoveryv1.EndpointSlice // sorted by name; never changed, but replaced
	born    time.Time
	wishes  []wish
	dials   []netip.AddrPort // what its slices say, as far as nothing else speaks against it

	stale    bool   // listed as such
	reclaims bool   // its wishes may have changed
	draft    *draft // the first half of what is computed, if it is known

	ports    []*Port
	problems []Problem
	check    *healthCheck // nil: none
}

// draft is a plan before it is known who else claims its frontends.
type draft struct {
	ports    []*Port // with all frontends that they wish for
	problems []Problem
}

func newPlanner() *planner {
	return &planner{
		claims: newClaims(), plans: map[serviceName]*plan{}, ignored: map[*discoveryv1.EndpointSlice][]Problem{},
		scratch: pool{all: map[netip.AddrPort]endpoint{}},
	}
}

// compareAge orders Services so that all nodes agree on who was first.
func compareAge(a, b *plan) int {
	return cmp.Or(a.born.Compare(b.born), strings.Compare(a.name.namespace, b.name.namespace), strings.Compare(a.name.name, b.name.name))
}

// desire returns what should be served.
func (m *planner) desire(objects source.Objects, f facts) *desired {
	moved := m.learn(f)
	m.work = m.empty()
	ignored := m.regroup(objects.Slices)
	m.follow(objects.Services)
	m.reclaim(moved)
	m.findLoops(moved)
	again := m.last == nil || ignored || len(m.stale) > 0
	for _, p := range m.stale {
		m.plan(p)
	}
	m.stale = m.stale[:0]
	d := m.empty()
	if again {
		m.assemble(d)
	} else {
		d.ports, d.problems, d.checks = m.last.ports, m.last.problems, m.last.checks
	}
	m.last = d
	return d
}

// empty is the state of no Service.
func (m *planner) empty() *desired {
	return &desired{facts: m.facts, served: served{m.claims, m.facts.local, m.facts.own}, planner: m}
}

func (m *planner) markStale(p *plan) {
	if !p.stale {
		p.stale = true
		m.stale = append(m.stale, p)
	}
}

// learn takes the facts. The addresses of the node and the ports that it listens on
// come and go all the time, and matter only to those who would dial them, as endpoints
// that are drained do to their Services; after any other change everything is computed anew.
func (m *planner) learn(f facts) *moved {
	moved := &moved{now: f.local, exact: map[netip.AddrPort]bool{}, addresses: difference(m.facts.local, f.local), ports: difference(m.facts.own, f.own)}
	before, now := m.facts, f
	before.local, before.own, now.local, now.own = nil, nil, nil, nil
	m.override(before.drained, now.drained)
	before.drained, now.drained = nil, nil
	m.facts = f
	if !reflect.DeepEqual(before, now) {
		for _, p := range m.plans {
			p.reclaims = true
			m.markStale(p)
		}
	}
	return moved
}

// difference is what is in one of two sets only.
func difference[T comparable](a, b map[T]bool) map[T]bool {
	d := map[T]bool{}
	if maps.Equal(a, b) {
		return d
	}
	for _, sets := range [][2]map[T]bool{{a, b}, {b, a}} {
		for one := range sets[0] {
			if !sets[1][one] {
				d[one] = true
			}
		}
	}
	return d
}

// regroup gives the slices to their Services. What cannot belong to one is told and
// left out; it returns whether there is a change in that.
func (m *planner) regroup(all []*discoveryv1.EndpointSlice) (ignored bool) {
	came, went := m.slices.update(all)
	for _, s := range went {
		ignored = ignored || m.ignored[s] != nil
		delete(m.ignored, s)
		if name, ok := serviceOf(s); ok {
			p := m.of(name)
			i := slices.Index(p.slices, s)
			m.setSlices(p, slices.Delete(slices.Clone(p.slices), i, i+1))
		}
	}
	for _, s := range came {
		if problems := sliceProblems(s); len(problems) > 0 {
			ignored, m.ignored[s] = true, limited(problems)
		}
		if name, ok := serviceOf(s); ok {
			p := m.of(name)
			i, _ := slices.BinarySearchFunc(p.slices, s, compareSlices)
			m.setSlices(p, slices.Insert(slices.Clone(p.slices), i, s))
		}
	}
	return ignored
}

func (m *planner) setSlices(p *plan, list []*discoveryv1.EndpointSlice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p.slices = slices.Clip(list)
	m.markStale(p)
}

// compareSlices orders the slices of a Service so that of two endpoints that are
// equally good the same one counts in every pass.
func compareSlices(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) }

// slicesOf are the slices of a Service. It is safe for concurrent use.
func (m *planner) slicesOf(name serviceName) []*discoveryv1.EndpointSlice {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if p := m.plans[name]; p != nil {
		return p.slices
	}
	return nil
}

// of is the plan of a name, made if need be.
func (m *planner) of(name serviceName) *plan {
	p := m.plans[name]
	if p == nil {
		p = &plan{name: name}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.plans[name] = p
	}
	return p
}

// follow takes the Services.
func (m *planner) follow(all []*corev1.Service) {
	came, went := m.services.update(all)
	set := func(p *plan, s *corev1.Service) {
		p.service, p.reclaims = s, true
		m.markStale(p)
	}
	for _, s := range went {
		if p := m.of(serviceName{s.Namespace, s.Name}); p.service == s {
			set(p, nil)
		}
	}
	for _, s := range came {
		set(m.of(serviceName{s.Namespace, s.Name}), s)
	}
}

// reclaim has the Services that have changed claim what they wish for now. Whoever
// gets or loses something by that is stale, too.
func (m *planner) reclaim(moved *moved) {
	owners := map[claim]ServicePort{} // of what may change hands, before; zero: nobody
	note := func(c claim) {
		if _, known := owners[c]; !known {
			owners[c] = m.ownerOf(c)
		}
	}
	var gone, came []*plan
	for _, p := range m.stale {
		if !p.reclaims {
			continue
		}
		if p.wishes != nil {
			gone = append(gone, p)
		}
		for i := range p.wishes {
			note(p.wishes[i].claim)
			m.claims.remove(&p.wishes[i])
		}
		p.wishes = nil
	}
	m.order = merged(m.order, gone, nil, compareAge)
	for _, p := range m.stale {
		if p.reclaims && p.isServed() {
			p.born, p.draft = p.service.CreationTimestamp.Time, m.draftOf(p.service)
			p.wish()
			came = append(came, p)
		}
		p.reclaims = false
	}
	m.order = merged(m.order, nil, came, compareAge)
	slices.SortFunc(came, func(a, b *plan) int { return compareAge(b, a) }) // each that comes is then first in line
	for _, p := range came {
		for i := range slices.Backward(p.wishes) {
			note(p.wishes[i].claim)
			m.claims.add(&p.wishes[i])
		}
	}
	for c, before := range owners {
		m.changesHands(c, before, moved)
	}
}

// ownerOf is who has what is claimed; zero: nobody.
func (m *planner) ownerOf(c claim) ServicePort {
	if w := m.claims.owner(c); w != nil {
		return w.servicePort()
	}
	return ServicePort{}
}

func (m *planner) changesHands(c claim, before ServicePort, moved *moved) {
	now := m.ownerOf(c)
	if now == before {
		return
	}
	for w := m.claims.owner(c); w != nil; w = w.next {
		m.markStale(w.plan) // those who do not get it are told who has it
	}
	if (now == ServicePort{}) != (before == ServicePort{}) {
		moved.claim(c)
	}
}

// isServed leaves out what DNS alone answers for.
func (p *plan) isServed() bool {
	if p.service == nil {
		return false
	}
	spec := &p.service.Spec
	return spec.Type != corev1.ServiceTypeExternalName && spec.ClusterIP != "" && spec.ClusterIP != corev1.ClusterIPNone
}

func (m *planner) draftOf(s *corev1.Service) *draft {
	d := m.work
	d.ports, d.problems = nil, nil
	d.addPorts(s)
	d.addExternalFrontends(s)
	return &draft{d.ports, d.problems}
}

// wish lists what the ports of the draft wish for.
func (p *plan) wish() {
	n := 0
	for _, port := range p.draft.ports {
		n += len(port.Frontends)
	}
	p.wishes = make([]wish, 0, n)
	for _, port := range p.draft.ports {
		for _, f := range port.Frontends {
			p.wishes = append(p.wishes, wish{
				claim: claim{f.Addr, f.Port, port.Family, port.Protocol}, plan: p, port: port.ServicePort.Port,
				late: f.Kind != ClusterIP, rank: len(p.wishes),
			})
		}
	}
}

// moved is what has changed in served.
type moved struct {
	now       map[netip.Addr]bool // addresses of the node
	exact     map[netip.AddrPort]bool
	addresses map[netip.Addr]bool
	ports     map[uint16]bool // on addresses of the node
}

func (m *moved) claim(c claim) {
	if c.addr.IsValid() {
		m.exact[netip.AddrPortFrom(c.addr, c.port)] = true
	} else {
		m.ports[c.port] = true
	}
}

func (m *moved) nothing() bool { return len(m.exact)+len(m.addresses)+len(m.ports) == 0 }

// concerns says whether served.isOwn may have another answer than before.
func (m *moved) concerns(dial netip.AddrPort) bool {
	return len(m.exact) > 0 && m.exact[dial] ||
		len(m.addresses) > 0 && m.addresses[dial.Addr()] ||
		len(m.ports) > 0 && m.ports[dial.Port()] && m.now[dial.Addr()]
}

// findLoops finds the Services that would dial what has become an address of this
// process, or is none any more.
func (m *planner) findLoops(moved *moved) {
	if moved.nothing() {
		return
	}
	for _, p := range m.order {
		if !p.stale && slices.ContainsFunc(p.dials, moved.concerns) {
			m.markStale(p)
		}
	}
}

// plan makes the plan of one Service anew.
func (m *planner) plan(p *plan) {
	p.stale = false
	before := p.ports
	made := p.draft
	p.draft, p.ports, p.problems, p.check, p.dials = nil, nil, nil, nil, nil
	if p.service == nil && len(p.slices) == 0 {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.plans, p.name)
	}
	if !p.isServed() {
		return
	}
	if made == nil {
		made = m.draftOf(p.service)
	}
	d := m.work
	d.ports, d.problems = made.ports, made.problems
	d.grant(p.wishes)
	m.scratch.dials = m.scratch.dials[:0]
	for _, port := range d.ports {
		d.setEndpoints(port, p.slices, &m.scratch)
	}
	p.check = d.healthCheckOf(p.service)
	p.problems = limited(d.problems)
	p.dials = slices.Clone(m.scratch.dials)
	for i, port := range d.ports {
		for _, old := range before {
			if old.Key == port.Key && reflect.DeepEqual(old, port) {
				d.ports[i] = old
			}
		}
	}
	p.ports = d.ports
}

// assemble puts the plans together, the oldest Service first.
func (m *planner) assemble(d *desired) {
	n := 0
	if m.last != nil {
		n = len(m.last.ports) + 8
	}
	d.ports = make([]*Port, 0, n)
	for _, s := range slices.SortedFunc(maps.Keys(m.ignored), func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), compareSlices(a, b))
	}) {
		d.problems = append(d.problems, m.ignored[s]...)
	}
	for _, p := range m.order {
		d.ports = append(d.ports, p.ports...)
		d.problems = append(d.problems, p.problems...)
		if p.check != nil {
			d.checks = append(d.checks, *p.check)
		}
	}
}
