package proxier

import (
	"context"
	"fmt"
	"maps"
	"slices"
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
	p.health.Node(objects.Node, objects.ExpectsNode)
	p.kube.began(objects)
	node := newNodeState(&p.cfg, p.node.addresses(), objects.Node, p.source.device)
	d := desire(objects, p.facts(node))
	d.ports = slices.DeleteFunc(d.ports, func(port Port) bool { return !slices.Contains(p.data.capture.families(), port.Family) })
	node.open = d.openPorts()
	p.data.clients.Store(node.clients)
	p.data.served.Store(&d.served)

	change := p.prepare(d.ports, node)
	p.data.served.Store(d.served.on(p.data.capture.own())) // with the ports that are new, before any rule leads there
	served := p.served(change.gone)
	failed := p.data.capture.apply(ctx, served, node, verify)
	settled := p.flows.forget(p.datagrams(served, node), node.addresses.all(), failed)
	closed := p.settle(served, change, failed)
	p.seen.Store(newSeen(d, served))
	p.wakeAfter(sooner(change.next, p.drainGone()))
	p.data.connections.makeRoom(countSockets(served))
	p.data.whole.Changed()

	problems := slices.Concat(d.problems, change.problems, p.strayPods(d.ports, node), p.syncChecks(d.checks, node), p.failures(failed), p.source.problems(p.cfg.NodeName))
	if ctx.Err() == nil {
		p.reporter.report(problems)
	}
	p.measure(d.ports, time.Since(start), failed)
	p.metrics.pass(time.Since(start), len(failed) == 0, len(served), problems)
	if len(failed) > 0 {
		p.health.Synced(p.written(failed)...)
		return min(retryAfter, p.cfg.SyncPeriod)
	}
	if change.missing && closed {
		return 0 // what was in the way of the missing ones may be gone now
	}
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
	gone     map[Key]*listener // of no Port any more
	unused   []*socket         // they must outlive their rules
	missing  bool              // some socket could not be had
	next     time.Duration     // when a listener wants to be updated again; 0: not by itself
	problems []Problem
}

// prepare brings the listeners of all ports up to date.
func (p *Proxier) prepare(ports []Port, node *nodeState) change {
	c := change{gone: maps.Clone(p.listeners)}
	for i := range ports {
		port := &ports[i]
		delete(c.gone, port.Key)
		unused, next, errs := p.servePort(port, node)
		c.unused, c.next = append(c.unused, unused...), sooner(c.next, next)
		for _, err := range errs {
			c.missing = true
			c.problems = append(c.problems, Problem{serviceRef(port.Namespace, port.Name), "CannotListen", fmt.Sprintf("%s: %v", port.Key, err)})
		}
	}
	return c
}

// servePort brings the listener of a Port up to date, making it if need be. The
// sockets that it no longer needs are returned: they must outlive their rules.
func (p *Proxier) servePort(port *Port, node *nodeState) (unused []*socket, next time.Duration, errs []error) {
	shared := p.sharedPort(port)
	l := p.listeners[port.Key]
	if l == nil {
		l = newListener(p.data, port.Key, shared)
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

// served lists the listeners that stay, in a stable order.
func (p *Proxier) served(gone map[Key]*listener) []*listener {
	var list []*listener
	for key, l := range p.listeners {
		if gone[key] == nil {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b *listener) int { return compareKeys(a.key, b.key) })
	return list
}

// settle ends what nothing leads to any more, in the families that the capture
// did not fail for, and tells whether that closed a socket. Connections already
// accepted go on, as Kubernetes promises.
func (p *Proxier) settle(served []*listener, c change, failed map[Family]error) (closed bool) {
	unused := c.unused
	for _, l := range served {
		if failed[l.key.Family] == nil {
			l.applied()
		}
	}
	for key, l := range c.gone {
		if failed[key.Family] != nil {
			continue
		}
		unused = append(unused, l.sockets...)
		l.sockets = nil
		l.retire()
		delete(p.listeners, key)
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
		local: node.addresses.all(), own: p.data.capture.own(),
		allowExternal: p.cfg.AllowExternalIPs, loopbackAllow: p.cfg.AllowLoopbackEndpoints,
		defaults: p.cfg.Service, policies: p.cfg.policyNames(), forbidden: p.cfg.IgnoreAnnotations,
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

// written are the families that the capture has not failed for.
func (p *Proxier) written(failed map[Family]error) (families []corev1.IPFamily) {
	return ipFamilies(slices.DeleteFunc(p.data.capture.families(), func(f Family) bool { return failed[f] != nil }))
}

func (p *Proxier) measure(ports []Port, took time.Duration, failed map[Family]error) {
	p.kube.noLocalEndpoints(ports)
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
