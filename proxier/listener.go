package proxier

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/outlier"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/source"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/udp"
)

// dataPath is what all connections share.
type dataPath struct {
	log          logrus.FieldLogger
	observer     *observe.Observer
	capture      capture
	newPolicy    func(name string) (balancer.Policy, error)
	dialer       *dial.Dialer
	prober       *outlier.Prober
	connections  *connections
	pollers      *tcp.Pollers
	clock        *relay.Clock
	whole        *limit.Whole
	clients      atomic.Pointer[clients]
	source       *clientSource
	packets      *udp.Relay
	served       atomic.Pointer[served]
	acceptErrors *occasionally
	notAccepted  *prometheus.CounterVec // by the name of the error
	era          era                    // of the reconcile loop
	event        func(about source.Ref, reason, message string)
	wake         func() // the reconcile loop
	tracer       tracer
	inheritance  atomic.Pointer[Inheritance] // nil: nothing was handed over, or not any more
}

// listener serves one Port on one or more sockets. The reconcile loop owns it
// and everything in it; connections only read what is current.
type listener struct {
	*dataPath
	key       Key
	policies  policies
	health    *outlier.Detector
	newcomers bySet[newcomers]
	leaving   leaving
	shared    *sharedPort
	sockets   []*socket
	current   atomic.Pointer[state]
	active    atomic.Int64 // connections being served
	refusals  refusals     // of a UDP port
	telling   sync.Mutex   // held while something is told of health
	gone      atomic.Bool  // of no Port any more; set under telling
	updated   updated
	restless  atomic.Bool // something is to be done though the Port is the same
}

// updated is what the last update was given.
type updated struct {
	failed bool
	era    uint64
	due    time.Time // when the time itself changes something, zero if it does not
}

// policies are the balancer policies of a listener's sets.
type policies struct {
	name string
	bySet[balancer.Policy]
}

// bySet has one of something for each Set.
type bySet[T any] struct{ cluster, local T }

func (b *bySet[T]) of(s Set) *T {
	if s == LocalSet {
		return &b.local
	}
	return &b.cluster
}

// state is what a connection needs to know of its Port, swapped as one.
type state struct {
	port    *Port
	pickers bySet[balancer.Picker]
	weighed bySet[[]balancer.Endpoint] // what the pickers were made for
	// former are frontends that are the Port's no more, but that the kernel may
	// still lead here.
	former []Frontend
}

// frontend returns the frontend that a client has reached by dialling dst.
func (s *state) frontend(dst netip.AddrPort) (Frontend, bool) {
	if f, ok := find(s.port.Frontends, dst); ok {
		return f, true
	}
	return find(s.former, dst)
}

func newListener(d *dataPath, key Key, shared *sharedPort) *listener {
	shared.listeners++
	l := &listener{dataPath: d, key: key, shared: shared}
	l.health = outlier.New(d.prober, key.Protocol, outlier.Settings{}, l.healthChanged)
	l.health.Restore(d.inheritance.Load().health(key))
	return l
}

// retire ends what a listener does beside its connections, when nothing leads to it
// any more. What is measured of its endpoints is not to come back afterwards.
func (l *listener) retire() {
	l.health.Close()
	l.telling.Lock()
	defer l.telling.Unlock()
	l.gone.Store(true)
	l.shared.metrics.Endpoints(l.key.Family.String(), 0, 0, 0)
	l.shared.metrics.Ill(l.key.Family.String(), 0)
}

// update makes the listener serve port from now on; connections already
// accepted are not touched. The sockets follow: they serve while there is a
// usable endpoint, and refuse or keep silent while there is none. It returns when
// it wants to be called again though nothing changes; 0: never.
//
// The same Port, by its address, means that nothing of it has changed.
func (l *listener) update(port *Port, sockets []*socket, node *nodeState, now time.Time) (next time.Duration, err error) {
	restless, era := l.restless.Swap(false), l.era.of(node)
	if old := l.current.Load(); old != nil && old.port == port && !restless && l.updated.lasts(era, now) && slices.Equal(l.sockets, sockets) {
		return l.updated.wait(now), nil
	}
	next, err = l.renew(port, sockets, node, now)
	l.updated = updated{failed: err != nil, era: era}
	if next > 0 {
		l.updated.due = now.Add(next)
	}
	return next, err
}

// lasts says whether it still holds.
func (u *updated) lasts(era uint64, now time.Time) bool {
	return !u.failed && u.era == era && (u.due.IsZero() || now.Before(u.due))
}

// wait is how long it does so; 0: for ever.
func (u *updated) wait(now time.Time) time.Duration {
	if u.due.IsZero() {
		return 0
	}
	return u.due.Sub(now)
}

// renew is update where something may have changed.
func (l *listener) renew(port *Port, sockets []*socket, node *nodeState, now time.Time) (next time.Duration, err error) {
	old := l.current.Load()
	renewed, err := l.choose(port.Settings.Balancer)
	if err != nil {
		return 0, err
	}
	l.health.Set(port.Settings.Outlier)
	state, asked := &state{port: port}, false
	for _, set := range []Set{ClusterSet, LocalSet} {
		var grows time.Duration
		weighed, picker := state.weighed.of(set), state.pickers.of(set)
		*weighed, grows = l.newcomers.of(set).weigh(port.eligible(set).Endpoints, port.Settings, now)
		next = sooner(next, grows)
		switch {
		case !renewed && old != nil && old.port.Affinity == port.Affinity && slices.Equal(*old.weighed.of(set), *weighed):
			*picker = *old.pickers.of(set)
		case len(*weighed) == 0 && (old == nil || len(*old.weighed.of(set)) == 0):
			*picker = nobody{}
		default:
			*picker, asked = l.picker(port, set, *weighed), true
		}
	}
	if old != nil && (len(old.former) > 0 || !slices.Equal(old.port.Frontends, port.Frontends)) {
		state.former = withoutAll(append(slices.Clone(old.former), old.port.Frontends...), port.Frontends)
	}
	if old == nil || counts(old.port) != counts(port) {
		n := counts(port)
		l.shared.metrics.Endpoints(port.Family.String(), n[0], n[1], n[2])
	}
	if asked {
		l.measureIll()
	}
	l.current.Store(state)
	if old != nil && !sameEndpoints(old.port, port) {
		l.shared.endpointsChanged()
	}
	l.refusals.keep(port)
	next = sooner(next, l.drain(port, now))
	l.sockets = sockets
	errs := []error{}
	for _, s := range l.sockets {
		errs = append(errs, s.give(l.capture.answer(port, s, node), l))
	}
	return next, errors.Join(errs...)
}

func sameEndpoints(a, b *Port) bool {
	return slices.Equal(a.Cluster.Endpoints, b.Cluster.Endpoints) && slices.Equal(a.Local.Endpoints, b.Local.Endpoints)
}

// sooner is the shorter of two times to wait, of which 0 is for ever.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// choose makes the policies of a name, and tells whether these are new.
func (l *listener) choose(name string) (renewed bool, err error) {
	if l.policies.name == name {
		return false, nil
	}
	chosen := policies{name: name}
	for _, set := range []Set{ClusterSet, LocalSet} {
		if *chosen.of(set), err = l.newPolicy(name); err != nil {
			return false, err
		}
	}
	l.policies = chosen
	return true, nil
}

// picker asks the policy for those endpoints of the set that are well.
func (l *listener) picker(port *Port, set Set, endpoints []balancer.Endpoint) balancer.Picker {
	policies, affinity, stays := l.policies, l.shared.affinity, port.Affinity
	return l.health.Picker(string(set), func(well []balancer.Endpoint) balancer.Picker {
		picker := l.ask(policies, set, well)
		if stays > 0 {
			picker = affinity.Picker(picker, well, stays)
		}
		return picker
	}, endpoints)
}

// ask asks a policy, and survives one that panics: what it was asked by serves others
// as well.
func (l *listener) ask(p policies, set Set, endpoints []balancer.Endpoint) (picker balancer.Picker) {
	defer func() {
		if panicked := recover(); panicked != nil {
			l.log.Errorf("the balancer %s of %s failed, its connections fail until the endpoints change: %v\n%s", p.name, l.key, panicked, debug.Stack())
			picker = failed{fmt.Errorf("the balancer %s has failed: %v", p.name, panicked)}
		}
	}()
	return (*p.of(set)).Picker(endpoints)
}

// failed stands for a Picker that could not be made.
type failed struct{ error }

func (f failed) Pick(balancer.Request) (balancer.Pick, error) { return balancer.Pick{}, f }

// nobody is the Picker of a set that has had no endpoint yet. Most Services have none
// on most nodes.
type nobody struct{}

func (nobody) Pick(balancer.Request) (balancer.Pick, error) {
	return balancer.Pick{}, balancer.ErrNoEndpoints
}

// Choose counts nothing: the endpoint is gone.
func (nobody) Choose(e balancer.Endpoint) balancer.Pick { return balancer.Pick{Endpoint: e} }

// counts are how many endpoints are usable, local and excluded.
func counts(p *Port) [3]int {
	return [3]int{len(p.Cluster.Endpoints), len(p.Local.Endpoints), len(p.Excluded)}
}

// applied tells that the kernel leads here what it should, and nothing else.
func (l *listener) applied() {
	if now := l.current.Load(); len(now.former) > 0 {
		l.current.Store(&state{port: now.port, pickers: now.pickers, weighed: now.weighed})
	}
}

func withoutAll(list, gone []Frontend) []Frontend {
	list = slices.DeleteFunc(list, func(f Frontend) bool { return slices.Contains(gone, f) })
	return slices.Compact(list)
}

// accept is the welcome of a client for whom a set of endpoints is eligible; empty: which,
// depends on the client.
func (l *listener) accept(client *tcp.Conn, peer netip.AddrPort, set Set) guest {
	c := &connection{listener: l, client: client, record: l.observer.Open(l.shared.metrics)}
	c.record.Client, c.record.Set = peer, observe.WordOf(set)
	c.record.ServiceActive = int32(l.active.Add(1))
	c.record.GlobalActive = int32(l.connections.add(c))
	c.traceAccepted()
	return c
}

func (l *listener) acceptFailed(err error) {
	l.notAccepted.WithLabelValues(observe.ErrnoName(err)).Inc()
	if l.acceptErrors.allow(time.Now()) {
		l.log.WithField("listener", l.key.String()).WithError(err).
			Warn("cannot accept connections for the moment; new ones wait (is the limit of open files too low?)")
	}
}

// close gives the sockets up. Connections already accepted go on.
func (l *listener) close() {
	for _, s := range l.sockets {
		s.close(observe.Shutdown)
	}
	l.sockets = nil
}
