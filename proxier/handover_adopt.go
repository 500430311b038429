package proxier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/outlier"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/udp"
)

// heir goes on with what another process has handed over: first with the bytes of established
// connections, which nothing else is needed for; then, when the capture is there, with all
// the rest. Whatever of it nobody wants any more is closed at the end.
type heir struct {
	*handedOver
	files     *handover.Files
	ports     []*Port // of Listeners
	byKey     map[Key]carriedListener
	listeners map[Key]*listener // with connections, not taken over yet
	sockets   map[heirloom]inherited
	later     []func() // connections that look for an endpoint, or may
	picks     map[*listener][]*latePick
	resumed   int
	paused    time.Duration // of those in which bytes moved
	lost      error
}

// heirloom names a socket: whose it is, and its address.
type heirloom struct {
	owner string
	addr  netip.AddrPort
}

// inherited is one that is not in use again yet.
type inherited struct {
	carriedSocket
	key Key
}

// inherit reads what was handed over. It changes nothing yet.
func inherit(parcel *handover.Parcel) (*heir, error) {
	h := &heir{byKey: map[Key]carriedListener{}, listeners: map[Key]*listener{}, sockets: map[heirloom]inherited{}, picks: map[*listener][]*latePick{}}
	var err error
	if h.handedOver, err = readHandedOver(parcel.State); err != nil {
		return nil, err
	}
	for i, l := range h.all() {
		l.Port.Settings = &h.Settings[l.Settings]
		if i < len(h.Listeners) {
			h.byKey[l.Port.Key] = *l
			h.ports = append(h.ports, &l.Port)
		}
		for _, s := range l.Sockets {
			h.sockets[heirloom{l.Port.Key.String(), s.Addr}] = inherited{s, l.Port.Key}
		}
	}
	for _, s := range h.Denied {
		h.sockets[heirloom{deniedKey.Name, s.Addr}] = inherited{carriedSocket: s}
	}
	h.files = handover.NewFiles(parcel.Files)
	if h.Crashed {
		h.sort()
	}
	return h, nil
}

// node is the Node object, nil if there was none.
func (h *heir) node() *corev1.Node {
	if len(h.Node) == 0 {
		return nil
	}
	node := &corev1.Node{}
	if json.Unmarshal(h.Node, node) != nil {
		return nil // it comes again with the first pass
	}
	return node
}

// overrides are those that somebody has made.
func (h *heir) overrides() (list overrides) {
	for _, o := range h.Overrides {
		list = append(list, override{
			target: target{o.Addr, o.Port, o.Pod, serviceName{o.Namespace, o.Service}}, uid: o.UID, since: o.Since, tenant: o.Tenant,
		})
	}
	return list
}

// checks are the health checks of load balancers.
func (h *heir) checks() (list []healthCheck) {
	for _, c := range h.Checks {
		list = append(list, healthCheck{serviceName{c.Namespace, c.Name}, c.Port, c.Local})
	}
	return list
}

// take takes a socket that is inherited, if the owner has had it.
func (h *heir) take(owner string, addr netip.AddrPort) (s inherited, fd int, ok bool) {
	if h == nil {
		return s, -1, false
	}
	name := heirloom{owner, addr}
	if s, ok = h.sockets[name]; !ok {
		return s, -1, false
	}
	delete(h.sockets, name)
	if s.Packets != nil {
		return s, -1, true
	}
	fd, ok = h.files.Take(s.Cookie)
	return s, fd, ok
}

// health is what was known of a listener's endpoints.
func (h *heir) health(key Key) []outlier.EndpointState {
	if h == nil {
		return nil
	}
	return h.byKey[key].Health
}

// affinity is what was known of a ServicePort's clients.
func (h *heir) affinity(of ServicePort) []balancer.AffinityEntry {
	if h == nil {
		return nil
	}
	return slices.Concat(h.byKey[Key{of, IPv4}].Affinity, h.byKey[Key{of, IPv6}].Affinity)
}

// limits is what was left of a ServicePort's limits.
func (h *heir) limits(of ServicePort) (state limit.State) {
	if h == nil {
		return state
	}
	for _, family := range []Family{IPv4, IPv6} {
		state.Missing = max(state.Missing, h.byKey[Key{of, family}].Limits.Missing)
	}
	return state
}

// had says whether the rules of a family work, as far as who has handed over knows.
func (h *heir) had(family Family) bool { return h != nil && slices.Contains(h.Families, family) }

// ruleKeys are the ports of the range that each family's listeners had.
func (h *heir) ruleKeys(family Family) map[iptables.Key]uint16 {
	if h == nil || h.Crashed || h.Capture != "iptables" {
		return nil
	}
	ports := map[iptables.Key]uint16{}
	for _, s := range h.sockets {
		switch {
		case familyOf(s.Addr.Addr()) != family:
		case s.key == (Key{}):
			ports[deniedKey] = s.Addr.Port()
		default:
			ports[ruleKey(s.key.ServicePort, destination{s.Set, s.Frontend})] = s.Addr.Port()
		}
	}
	return ports
}

// adopt has established connections go on, those in which bytes moved first.
func (p *Proxier) adopt(h *heir) error {
	all := h.all()
	for i, some := range h.chunks {
		connections, err := h.connections(some)
		if err != nil {
			return err
		}
		var resume []func()
		for i := range connections {
			one := &connections[i]
			goOn, err := p.adoptConnection(h, &all[one.Listener].Port, one)
			if err != nil {
				h.lost = errors.Join(h.lost, fmt.Errorf("connection %d: %w", one.Record.Number, err))
			} else if goOn != nil {
				resume = append(resume, goOn)
			}
		}
		inParallel(p.cfg.Cores, resume)
		if i == 0 {
			h.paused = time.Since(h.Rested.Time())
		}
	}
	return nil
}

// inParallel calls all, some at a time.
func inParallel(n int, all []func()) {
	var working sync.WaitGroup
	for some := range slices.Chunk(all, max(1, (len(all)+n-1)/n)) {
		working.Go(func() {
			for _, f := range some {
				f()
			}
		})
	}
	working.Wait()
}

// adoptConnection makes a connection of what was handed over, and returns what has it go on;
// nil: that has to wait for the capture.
func (p *Proxier) adoptConnection(h *heir, port *Port, from *carriedConnection) (goOn func(), err error) {
	fd, ok := h.files.Take(from.Client)
	if !ok {
		return nil, errors.New("its client's socket was not handed over")
	}
	client, backend := tcp.New(fd, p.data.pollers.For(nil)), (*tcp.Conn)(nil)
	if from.Backend != 0 {
		if fd, ok = h.files.Take(from.Backend); !ok {
			client.Reset()
			return nil, errors.New("its endpoint's socket was not handed over")
		}
		backend = tcp.New(fd, client.Poller())
	}
	l := h.listeners[port.Key]
	if l == nil {
		l = newListener(p.data, port.Key, p.sharedPort(port))
		l.current.Store(&state{port: port, pickers: bySet[balancer.Picker]{nobody{}, nobody{}}})
		h.listeners[port.Key] = l
	}
	c := &connection{
		listener: l, client: client, record: l.observer.Resume(l.shared.metrics, &from.Record), settings: port.Settings,
		keepSource: from.KeepSource, hedged: from.Hedged, noted: from.Noted, settled: from.Settled, admitted: true,
	}
	l.active.Add(1)
	l.connections.add(c)
	if from.Admitted {
		c.visit = l.shared.gate.Restore(c.record.Client.Addr(), from.Wait)
	}
	h.resumed++
	if backend == nil {
		h.later = append(h.later, func() { go c.searchOn(from.Relay) })
		return nil, nil
	}
	late := &latePick{endpoint: c.record.Backend(), set: c.set(), answer: answerTime(c.record.Connect, from.Relay)}
	h.picks[l] = append(h.picks[l], late)
	c.use = use{leave: l.shared.gate.RestoreEndpoint(c.record.Backend().Addr), done: late.end, answered: late.answered, began: from.Attempt}
	goOn = func() { c.resume(client, backend, *from.Relay) }
	if from.Relay.Hold { // it may need another endpoint
		h.later = append(h.later, goOn)
		return nil, nil
	}
	return goOn, nil
}

// answerTime is how long an endpoint has taken to be connected to and to answer; 0 if it has
// not answered.
func answerTime(connect time.Duration, s *relay.State) time.Duration {
	if s.Backend.First.IsZero() {
		return 0
	}
	asked := s.Began
	if s.Client.First.After(asked) {
		asked = s.Client.First
	}
	return connect + max(0, s.Backend.First.Sub(asked))
}

// latePick is the pick of an endpoint that a connection has already: the policy counts it as
// soon as there is a picker.
type latePick struct {
	endpoint balancer.Endpoint
	set      Set

	mu      sync.Mutex
	answer  time.Duration // 0: it has not answered yet
	made    balancer.Pick
	outcome *balancer.Outcome // it has ended before
}

func (l *latePick) answered(took time.Duration) {
	l.mu.Lock()
	l.answer = took
	tell := l.made.Answered
	l.mu.Unlock()
	if tell != nil {
		tell(took)
	}
}

func (l *latePick) end(o balancer.Outcome) {
	l.mu.Lock()
	l.outcome = &o
	done := l.made.Done
	l.mu.Unlock()
	if done != nil {
		done(o)
	}
}

// make asks the policy.
func (l *latePick) make(of *listener) {
	chooser, ok := (*of.current.Load().pickers.of(l.set)).(balancer.Chooser)
	if !ok {
		return
	}
	pick := chooser.Choose(l.endpoint)
	l.mu.Lock()
	l.made = pick
	answer, outcome := l.answer, l.outcome
	l.mu.Unlock()
	if answer > 0 && pick.Answered != nil {
		pick.Answered(answer)
	}
	if outcome != nil && pick.Done != nil {
		pick.Done(*outcome)
	}
}

// goOn serves what was handed over, before the first objects have come: the listeners accept
// again, and the kernel leads to them as it did. So it is ready, as it was.
func (p *Proxier) goOn(context.Context) error {
	h := p.data.heir.Load()
	if h.Crashed { // who waits is served when all objects have come
		p.cfg.Log.Infof("a usher has ended with no time to hand over: clients wait at %s that it had", counted(len(h.sockets), "socket"))
		return nil
	}
	p.nodeObject, p.overrides = h.node(), h.overrides()
	node := newNodeState(&p.cfg, p.node.addresses(), p.nodeObject, p.source.device)
	p.data.clients.Store(node.clients)
	change := p.prepare(p.captured(h.ports), node, false)
	for _, l := range h.listeners { // of no Port any more
		p.draining = append(p.draining, l)
	}
	for l, picks := range h.picks {
		for _, one := range picks {
			one.make(l)
		}
	}
	for _, start := range h.later {
		start()
	}
	p.own, p.sockets = p.data.capture.own(), countSockets(p.serving)
	p.data.connections.makeRoom(p.sockets)
	if h.Ready {
		p.health.Synced(p.written(nil)...)
		p.showEarly(h.ports, node, change.problems)
		p.setReady()
	}
	change.problems = append(change.problems, p.syncChecks(h.checks(), node)...)
	for _, problem := range change.problems {
		p.cfg.Log.Warnf("handover: %s", problem.Message)
	}
	log := p.cfg.Log.WithFields(logrus.Fields{
		"pause_ms": milliseconds(h.paused), "accepting_after_ms": milliseconds(time.Since(h.Rested.Time())),
	})
	if h.lost != nil {
		log.WithError(h.lost).Error("handover: some connections were lost")
	}
	log.Infof("handover: went on with %d connections and %d listeners of usher %s", h.resumed, len(p.serving), h.Version)
	return nil
}

// settleHeir closes what nobody has taken, after the first complete pass.
func (p *Proxier) settleHeir() {
	if h := p.data.heir.Swap(nil); h != nil {
		h.files.Close()
	}
}

// adoptPacket is a UDP socket whose sessions go on when it is served.
func (l *listener) adoptPacket(c *carriedPacket) (*packetSocket, error) {
	state, err := l.heir.Load().packets(c, l)
	if err != nil {
		return nil, err
	}
	return &packetSocket{inherited: &state, relay: l.dataPath.packets, sessions: l.shared.sessions}, nil
}

// route is that of a session of the listener's.
func (l *listener) route(from *carriedRoute) *packetRoute {
	r := &packetRoute{
		frontend: from.Frontend, vip: from.VIP, client: clientKind(from.Client), set: from.Set, eligible: from.Eligible, known: from.Known,
		terminating: from.Terminating, sourceWhy: from.SourceWhy,
	}
	late := &latePick{endpoint: from.Endpoint, set: from.Set}
	r.pick = balancer.Pick{Endpoint: from.Endpoint, Done: late.end, Affinity: from.Affinity}
	h := l.heir.Load()
	h.picks[l] = append(h.picks[l], late)
	return r
}

// packets is the state of a UDP socket with its files.
func (h *heir) packets(c *carriedPacket, l *listener) (udp.SocketState, error) {
	s := c.State
	take := func(fd *int) error {
		if *fd < 0 || *fd >= len(c.Files) {
			*fd = -1
			return nil
		}
		taken, ok := h.files.Take(c.Files[*fd])
		if !ok {
			return errors.New("a socket was not handed over")
		}
		*fd = taken
		return nil
	}
	errs := []error{take(&s.FD)}
	for i := range s.Readers {
		errs = append(errs, take(&s.Readers[i].FD))
	}
	for i := range s.Sessions {
		errs = append(errs, take(&s.Sessions[i].FD))
		s.Sessions[i].Route.Of = l.route(&c.Sessions[i])
	}
	return s, errors.Join(errs...)
}
