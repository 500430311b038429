package policyroute

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Options are what a Router may be told.
type Options struct {
	// AnyIP does without policy rules, as on a kernel that has none.
	AnyIP bool
}

// Router leads packets to Service addresses that no interface has to the sockets of
// this node. It is for one goroutine.
type Router struct {
	kernel   kernel
	watch    *watch // of what others write; nil: nobody looks
	close    func()
	families map[Family]*familyState
	refuser  *refuser
	limits   atomic.Pointer[limits] // of the refuser
	// noRefuser is why there is none, nil if there is or none was needed so far.
	noRefuser error
}

// familyState is what a Router knows of a family.
type familyState struct {
	terms
	list  []Destination
	there *plan // what the kernel is known to have, nil if that is not known
	// drift is what the last Sync that verified has found beside what should have been.
	drift []string
}

// New changes nothing yet.
func New(o Options) (*Router, error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	w, err := newWatch(s.port)
	if err != nil {
		s.close()
		return nil, err
	}
	r := newRouter(s, func() { w.close(); s.close() }, o)
	r.watch = w
	return r, nil
}

func newRouter(k kernel, close func(), o Options) *Router {
	r := &Router{kernel: k, close: close, families: map[Family]*familyState{}}
	for _, family := range []Family{IPv4, IPv6} {
		r.families[family] = &familyState{terms: terms{family: family, anyIP: o.AnyIP}}
	}
	return r
}

// AnyIP says whether a family does without policy rules. Then a Service address is
// this node's own for every port, and for whoever asks by ARP or neighbour discovery.
// It is known after the first Sync.
func (r *Router) AnyIP(family Family) bool { return r.families[family].anyIP }

// NoRefuser is why clients of refused destinations do not get ECONNREFUSED, nil if
// they do.
func (r *Router) NoRefuser() error { return r.noRefuser }

// Shared is how many addresses of a family are this node's own for every port of a
// protocol, as there are more than MaxPorts pairs of protocol and port.
func (r *Router) Shared(family Family) int {
	if there := r.families[family].there; there != nil {
		return there.shared
	}
	return 0
}

// Limit has clients of some refused destinations refused only if they are in these
// prefixes; the others get silence. Of a Destination only Addr, Protocol and Port count. It
// replaces what was said before, and keeps the map.
func (r *Router) Limit(to map[Destination][]netip.Prefix) {
	l := limits(to)
	r.limits.Store(&l)
}

// Sync makes the destinations of a family those of the list, in any order; src is the
// node's address that its own packets to them come from, and may be invalid. Only what
// differs from the last Sync is written, or with verify, as well as the first time and
// after an error, what differs from what the kernel has. The routes of destinations
// that stay are not touched on the way.
func (r *Router) Sync(family Family, list []Destination, src netip.Addr, verify bool) error {
	f := r.families[family]
	list = slices.Clone(list)
	slices.SortFunc(list, Destination.Compare)
	list = slices.CompactFunc(list, func(a, b Destination) bool { return a.Compare(b) == 0 })
	if err := r.read(f, verify); err != nil {
		if errors.Is(err, ErrUnsupported) && len(list) == 0 {
			return nil // not even the family
		}
		return err
	}
	next := f.terms
	next.src = src
	if len(list) > 0 && !f.anyIP {
		next.device = r.device(verify)
	}
	if f.terms == next && !verify && f.list != nil && slices.Equal(f.list, list) {
		return nil
	}
	f.terms = next
	want := newPlan(list, next)
	there := f.there
	f.there, f.list = nil, nil
	err := want.announce(family, list, there.proxied)
	err = errors.Join(err, r.write(family, *there, want))
	if errors.Is(err, ErrUnsupported) && !f.anyIP {
		f.anyIP = true
		return r.Sync(family, list, src, verify)
	}
	if err == nil {
		f.there, f.list = &want, list
	}
	return err
}

// read finds out what the kernel has, if that is not known.
func (r *Router) read(f *familyState, verify bool) error {
	f.drift = nil
	if f.there != nil && !verify {
		return nil
	}
	rules, err := r.kernel.rules(f.family)
	if errors.Is(err, ErrUnsupported) {
		f.anyIP, rules, err = true, nil, nil
	}
	if err != nil {
		return err
	}
	routes, err := r.kernel.routes(f.family)
	if err != nil {
		return err
	}
	proxied, err := r.kernel.proxies(f.family)
	if err != nil {
		return err
	}
	now := &plan{rules: rules, routes: routes, proxied: proxied}
	if f.there != nil {
		now.remember(f.there.proxied)
		f.drift = f.there.differences(*now)
	}
	f.there = now
	return nil
}

// Drift tells what the last Sync of a family found to be otherwise than the Sync before
// had left it; nothing if it had no reason to look. All of it is somebody else's doing.
func (r *Router) Drift(family Family) []string { return r.families[family].drift }

// device is the index of the interface that refuses, 0 if there is none.
func (r *Router) device(verify bool) int {
	if r.refuser != nil && verify && !r.refuser.works() {
		r.refuser.close()
		r.refuser = nil
	}
	if r.refuser == nil && (r.noRefuser == nil || verify) {
		r.refuser, r.noRefuser = newRefuser(&r.limits)
	}
	if r.refuser == nil {
		return 0
	}
	return r.refuser.index
}

// write makes one plan of another. Routes come before the rules that lead to them, and
// go after them.
func (r *Router) write(family Family, there, want plan) error {
	errs := []error{r.kernel.setRoutes(family, differing(want.routes, there.routes))}
	for _, rule := range slices.Backward(inOrder(want.rules)) { // the targets of jumps first
		if !there.rules[rule] {
			errs = append(errs, r.kernel.addRule(family, rule))
		}
	}
	for _, rule := range inOrder(there.rules) {
		if !want.rules[rule] {
			errs = append(errs, r.kernel.deleteRule(family, rule))
		}
	}
	errs = append(errs, r.kernel.deleteRoutes(family, missing(there.routes, want.routes)))
	return summary(append(errs, r.writeProxies(there.proxied, want.proxied)...))
}

// differing are those that others has not, or leads elsewhere.
func differing(routes, others map[place]way) iter.Seq2[place, way] {
	return func(yield func(place, way) bool) {
		for at, to := range routes {
			if others[at] != to && !yield(at, to) {
				return
			}
		}
	}
}

// missing are those that others has not at all.
func missing(routes, others map[place]way) iter.Seq2[place, way] {
	return func(yield func(place, way) bool) {
		for at, to := range routes {
			if _, has := others[at]; !has && !yield(at, to) {
				return
			}
		}
	}
}

func inOrder(rules map[rule]bool) []rule {
	return slices.SortedFunc(maps.Keys(rules), func(a, b rule) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.table, b.table), a.to.Addr().Compare(b.to.Addr()))
	})
}

// summary is the first of many errors, and their number: they tend to be the same.
func summary(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch {
	case len(errs) == 0:
		return nil
	case len(errs) == 1:
		return errs[0]
	}
	return fmt.Errorf("%w (and %d errors more)", errs[0], len(errs)-1)
}

// Close takes everything away that is there of the two families, and ends the Router.
func (r *Router) Close() error {
	var errs []error
	for _, family := range []Family{IPv4, IPv6} {
		err := r.Sync(family, nil, netip.Addr{}, true)
		if !errors.Is(err, ErrUnsupported) {
			errs = append(errs, err)
		}
	}
	if r.refuser != nil {
		r.refuser.close()
		r.refuser = nil
	}
	r.close()
	return errors.Join(errs...)
}

// Remove takes away what a former process has left.
func Remove() error {
	r, err := New(Options{})
	if err != nil {
		return err
	}
	return r.Close()
}
