package proxier

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

// reconcile is one pass from the objects to the kernel. Whatever fails is tried
// again by the next pass, from the full state; it returns when that should be,
// if nothing happens before. With verify it also looks for what somebody else
// has changed in the kernel.
func (p *Proxier) reconcile(ctx context.Context, verify bool) (next time.Duration) {
	objects, complete := p.cfg.Source.Objects()
	if !complete {
		return p.cfg.SyncPeriod
	}
	start := time.Now()
	p.health.Queued() // also a pass that hangs is one that is not applied
	p.nodeObject = objects.Node
	p.health.Node(objects.Node, objects.ExpectsNode)
	p.kube.began(objects)
	node := newNodeState(&p.cfg, p.node.addresses(), objects.Node, p.source.device)
	d := p.planner.desire(objects, p.facts(node))
	node.open = d.openPorts()
	node, again := p.knownNode(node)
	p.data.clients.Store(node.clients)
	p.data.served.Store(&d.served)

	change := p.prepare(p.captured(d.ports), node, again || verify)
	if change.touched {
		p.own = p.data.capture.own()
	}
	p.data.served.Store(d.served.on(p.own)) // with the ports that are new, before any rule leads there
	failed := p.data.capture.apply(ctx, p.serving, node, verify)
	settled := p.flows.forget(p.datagrams(p.serving, node, change.datagrams), node.addresses.all(), failed)
	closed := p.settle(change, failed)
	p.noteRules(failed)
	p.show(d, objects, p.problems)
	p.wakeAfter(sooner(change.next, p.drainGone()))
	if change.touched || closed {
		p.own, p.sockets = p.data.capture.own(), countSockets(p.serving)
	}
	p.data.connections.makeRoom(p.sockets)
	p.data.whole.Changed()
	if change.touched || closed {
		p.keep()
	}

	if change.ports || again {
		p.kube.noLocalEndpoints(p.ports.last)
		p.stray = p.strayPods(p.ports.last, node)
	}
	problems := slices.Concat(d.problems, change.problems, p.stray, p.syncChecks(d.checks, node), p.failures(failed), p.source.problems(p.cfg.NodeName))
	p.problems = problems
	p.show(d, objects, problems)
	if ctx.Err() == nil {
		p.reporter.report(problems)
	}
	p.measure(time.Since(start), failed)
	p.metrics.pass(time.Since(start), len(failed) == 0, len(p.serving), problems)
	if len(failed) > 0 {
		p.health.Synced(p.written(failed)...)
		return min(retryAfter, p.cfg.SyncPeriod)
	}
	if change.missing && closed {
		return 0 // what was in the way of the missing ones may be gone now
	}
	p.settleInheritance()
	p.setReady()
	p.health.Synced(p.written(failed)...)
	switch {
	case !settled:
		return min(retryAfter, p.cfg.SyncPeriod)
	case change.missing:
		return min(missingAfter, p.cfg.SyncPeriod)
	}
	return p.cfg.SyncPeriod
}

const (
	retryAfter   = time.Second     // when a failed pass is tried again without any change
	missingAfter = 5 * time.Second // the same for sockets that could not be had
)

// change is what a pass does to the listeners, before the kernel follows.
type change struct {
	ports     bool          // some Port is not what it was
	touched   bool          // some listener was updated, or is gone
	datagrams bool          // such a one of UDP
	unused    []*socket     // they must outlive their rules
	missing   bool          // some socket could not be had
	next      time.Duration // when a listener wants to be updated again; 0: not by itself
	problems  []Problem
}

// restless is a listener with work to do though its Port stays as it is.
type restless struct {
	listener *listener
	at       time.Time // when it wants to be updated again; zero: not by time
	missing  bool      // some socket could not be had
}

// isDue says whether it is to be updated now.
func (r *restless) isDue(port *Port, now time.Time) bool {
	return r.missing || !r.at.IsZero() && !now.Before(r.at) ||
		r.listener.restless.Load() || // something has happened that no object tells
		port.Settings.Drain.Asked() && r.listener.active.Load() > 0 || // some of its connections may have to end
		port.Affinity > 0 // how many clients it remembers is measured
}

// isRestless says whether a listener may have work to do between changes.
func (r *restless) isRestless(port *Port) bool {
	return r.missing || !r.at.IsZero() || port.Protocol == udpProtocol || port.Settings.Drain.Asked() || port.Affinity > 0
}

// prepare brings the listeners up to date whose Ports have changed, or that have
// something else to do; with all every one.
func (p *Proxier) prepare(ports []*Port, node *nodeState, all bool) (c change) {
	came, went := p.ports.update(ports)
	c.ports = len(came)+len(went) > 0
	p.retire(came, went, &c)
	now, update := time.Now(), came
	if all {
		update = ports
	} else {
		for port, r := range p.restless {
			if r.isDue(port, now) {
				update = append(update, port)
			}
		}
	}
	var joined []*listener
	for _, port := range update {
		joins := p.listeners[port.Key] == nil || p.gone[port.Key] != nil
		delete(p.gone, port.Key)
		l := p.updatePort(port, node, now, &c)
		if joins {
			joined = append(joined, l)
		}
	}
	p.serving = merged(p.serving, nil, joined, func(a, b *listener) int { return compareKeys(a.key, b.key) })
	for _, r := range p.restless {
		if !r.at.IsZero() {
			c.next = sooner(c.next, max(1, r.at.Sub(now)))
		}
	}
	return c
}

// retire notes which listeners are of no Port any more. They go when nothing leads to
// them.
func (p *Proxier) retire(came, went []*Port, c *change) {
	if len(went) == 0 {
		return
	}
	stay := make(map[Key]bool, len(came))
	for _, port := range came {
		stay[port.Key] = true
	}
	var left []*listener
	for _, port := range went {
		delete(p.restless, port)
		if l := p.listeners[port.Key]; !stay[port.Key] {
			p.gone[port.Key] = l
			left = append(left, l)
			c.touched, c.datagrams = true, c.datagrams || port.Protocol == udpProtocol
		}
	}
	p.serving = merged(p.serving, left, nil, nil)
}

// updatePort brings the listener of a Port up to date and notes what it leaves to do.
func (p *Proxier) updatePort(port *Port, node *nodeState, now time.Time, c *change) *listener {
	unused, next, errs := p.servePort(port, node)
	l := p.listeners[port.Key]
	c.touched, c.datagrams = true, c.datagrams || port.Protocol == udpProtocol
	c.unused = append(c.unused, unused...)
	for _, err := range errs {
		c.missing = true
		c.problems = append(c.problems, Problem{serviceRef(port.Namespace, port.Name), "CannotListen", fmt.Sprintf("%s: %v", port.Key, err)})
	}
	p.updated = append(p.updated, l)
	r := &restless{listener: l, missing: len(errs) > 0}
	if next > 0 {
		r.at = now.Add(next)
	}
	delete(p.restless, port)
	if r.isRestless(port) {
		p.restless[port] = r
	}
	return l
}

// servePort brings the listener of a Port up to date, making it if need be. The
// sockets that it no longer needs are returned: they must outlive their rules.
func (p *Proxier) servePort(port *Port, node *nodeState) (unused []*socket, next time.Duration, errs []error) {
	shared := p.sharedPort(port)
	l := p.listeners[port.Key]
	if l == nil {
		l = p.newListener(port.Key, shared)
		p.listeners[port.Key] = l
	}
	sockets, errs := p.data.capture.sockets(port, l.sockets, l.open, node)
	for _, s := range l.sockets {
		if !slices.Contains(sockets, s) {
			unused = append(unused, s)
		}
	}
	next, err := l.update(port, sockets, node, time.Now())
	if err != nil {
		errs = append(errs, err)
	}
	return unused, next, errs
}

// newListener makes a listener, unless connections that were handed over have one.
func (p *Proxier) newListener(key Key, shared *sharedPort) *listener {
	if h := p.data.inheritance.Load(); h != nil && h.listeners[key] != nil {
		l := h.listeners[key]
		delete(h.listeners, key)
		return l
	}
	return newListener(p.data, key, shared)
}

// captured are the ports of the families that are served.
func (p *Proxier) captured(ports []*Port) []*Port {
	families := p.data.capture.families()
	other := func(port *Port) bool { return !slices.Contains(families, port.Family) }
	if !slices.ContainsFunc([]Family{IPv4, IPv6}, func(f Family) bool { return !slices.Contains(families, f) }) {
		return ports
	}
	return slices.DeleteFunc(slices.Clone(ports), other)
}

// knownNode is the state of the node that the last pass had, if that is the same, and
// whether it is another one.
func (p *Proxier) knownNode(node *nodeState) (known *nodeState, again bool) {
	if p.lastNode == nil || !p.lastNode.same(node) {
		p.lastNode, again = node, true
	}
	return p.lastNode, again
}

// settle ends what nothing leads to any more, in the families that the capture
// did not fail for, and tells whether that closed a socket. Connections already
// accepted go on, as Kubernetes promises.
func (p *Proxier) settle(c change, failed map[Family]error) (closed bool) {
	unused := c.unused
	p.updated = slices.DeleteFunc(p.updated, func(l *listener) bool {
		if failed[l.key.Family] == nil {
			l.applied()
			return true
		}
		return false
	})
	for key, l := range p.gone {
		if failed[key.Family] != nil {
			continue
		}
		unused = append(unused, l.sockets...)
		l.sockets = nil
		l.retire()
		delete(p.listeners, key)
		delete(p.gone, key)
		p.draining = append(p.draining, l)
	}
	p.unused = slices.DeleteFunc(append(p.unused, unused...), func(s *socket) bool {
		if failed[familyOf(s.addr.Addr())] != nil {
			return false
		}
		s.close(observe.ServiceRemoved)
		p.data.capture.released(s.addr)
		closed = true
		return true
	})
	p.forgetDrained()
	return closed
}

// drainGone ends connections of listeners that are gone, where their Service asked
// for that. It returns when it wants to be called again; 0: not by itself.
func (p *Proxier) drainGone() (next time.Duration) {
	for _, l := range p.draining {
		next = sooner(next, l.drain(gone(l.current.Load().port), time.Now()))
	}
	return next
}

func (p *Proxier) forgetDrained() {
	p.draining = slices.DeleteFunc(p.draining, func(l *listener) bool {
		if l.active.Load() > 0 {
			return false
		}
		p.forgetShared(l.key)
		return true
	})
}

func (p *Proxier) facts(node *nodeState) facts {
	return facts{
		nodeName: p.cfg.NodeName, zone: node.zone, nodeIPs: node.nodeIPs,
		local: node.addresses.all(), own: p.own,
		allowExternal: p.cfg.AllowExternalIPs, loopbackAllow: p.cfg.AllowLoopbackEndpoints,
		defaults: &p.cfg.Service, policies: p.cfg.policyNames(), forbidden: p.cfg.IgnoreAnnotations,
		drained: p.overrides,
	}
}

// failures are the problems of a capture that could not be written.
func (p *Proxier) failures(failed map[Family]error) (problems []Problem) {
	node := source.Ref{Kind: "Node", Name: p.cfg.NodeName}
	for family, err := range failed {
		problems = append(problems, Problem{node, "CannotWriteRules",
			fmt.Sprintf("%s: cannot write the capture; what was there before may still be in force, trying again: %v", family, err)})
	}
	return problems
}

// noteRules keeps how the writing of the capture went.
func (p *Proxier) noteRules(failed map[Family]error) {
	p.rulesNow.Failing = ""
	if len(failed) == 0 {
		p.rulesNow.Written = new(time.Now())
		return
	}
	var why []string
	for _, problem := range p.failures(failed) {
		why = append(why, problem.Message)
	}
	slices.Sort(why)
	p.rulesNow.Failing = strings.Join(why, "; ")
}

// written are the families that the capture has not failed for.
func (p *Proxier) written(failed map[Family]error) (families []corev1.IPFamily) {
	return ipFamilies(slices.DeleteFunc(p.data.capture.families(), func(f Family) bool { return failed[f] != nil }))
}

func (p *Proxier) measure(took time.Duration, failed map[Family]error) {
	for _, family := range p.data.capture.families() {
		p.kube.ended(family, took, failed[family])
		for table, n := range p.data.capture.rules(family) {
			p.kube.rules(family, table, n, n) // a pass writes all or none
		}
	}
}

func countSockets(listeners []*listener) (n int) {
	for _, l := range listeners {
		n += len(l.sockets)
	}
	return n
}
