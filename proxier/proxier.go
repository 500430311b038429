package proxier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/health"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

// Proxier makes the running listeners and the kernel match the objects of its
// source. Its loop, in Run, is the only one that changes either.
type Proxier struct {
	cfg       Config
	node      *addressWatch
	data      *dataPath
	records   *observe.Log
	observed  *observe.Metrics
	metrics   *metrics
	kube      *kubeMetrics
	health    *health.Proxy
	checks    *health.Services
	newPolicy func() balancer.Policy
	source    *clientSource
	reporter  reporter

	listeners map[Key]*listener
	shared    map[ServicePort]*sharedPort
	unused    []*socket     // of no use, but rules may still lead to them
	draining  []*listener   // closed, but with connections left
	ready     chan struct{} // closed after the first successful pass
}

// New checks that the configuration can work on this machine, and changes
// nothing yet.
func New(ctx context.Context, cfg Config) (*Proxier, error) {
	newPolicy, err := cfg.newPolicy()
	if err != nil {
		return nil, err
	}
	node, err := newAddressWatch(cfg.Log)
	if err != nil {
		return nil, err
	}
	p := &Proxier{
		cfg: cfg, node: node, newPolicy: newPolicy,
		records:   observe.NewLog(cfg.Log),
		reporter:  reporter{log: cfg.Log, event: cfg.Source.Event},
		listeners: map[Key]*listener{},
		shared:    map[ServicePort]*sharedPort{},
		ready:     make(chan struct{}),
	}
	if p.source, err = newClientSource(cfg.ReturnMark); err != nil {
		return nil, err
	}
	capture, mark, err := p.chooseCapture(ctx)
	if err = cmp.Or(ctx.Err(), err); err != nil {
		p.source.paths.Close()
		return nil, err
	}
	families := capture.families()
	p.health = health.New(2*cfg.SyncPeriod, ipFamilies(families)...)
	p.checks = health.NewServices(p.health.Healthy)
	p.observed = observe.NewMetrics(cfg.Registry, p.records)
	p.metrics = newMetrics(cfg.Registry)
	p.kube = newKubeMetrics(cfg.Registry, capture.String() == "iptables", families...)
	p.data = &dataPath{
		log:          cfg.Log,
		observer:     observe.New(cfg.NodeName, p.records, p.observed, cfg.OnRecord),
		capture:      capture,
		balancerName: cfg.Balancer,
		dialer:       dialer{cfg.Retry, mark},
		source:       p.source,
		halfClose:    cfg.HalfCloseTimeout,
		connections:  newConnections(),
		acceptErrors: &occasionally{interval: 10 * time.Second},
	}
	p.data.clients.Store(newClients(cfg.LocalPods, nil, node.addresses().all(), p.source.device))
	return p, nil
}

// Ready is closed when the first complete state is being served.
func (p *Proxier) Ready() <-chan struct{} { return p.ready }

// Run serves until ctx is done. Then it takes its rules away, lets connections
// end, and returns with nothing of it left running.
func (p *Proxier) Run(ctx context.Context) error {
	var workers, writer sync.WaitGroup
	failed := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	fail := func(err error) {
		select {
		case failed <- err:
		default: // one reason is enough
		}
		stop()
	}
	workers.Go(func() {
		if err := p.cfg.Source.Run(running); err != nil && running.Err() == nil {
			fail(err)
		}
	})
	workers.Go(func() { p.node.run(running) })
	asked, noMoreAsked := context.WithCancel(context.Background()) // also while stopping: to say so
	defer noMoreAsked()
	p.serveHTTP(asked, &workers, fail)
	writing, stopWriting := context.WithCancel(context.Background())
	writer.Go(func() { p.records.Run(writing) })

	p.loop(running)
	err := p.shutdown()
	stop()
	noMoreAsked()
	workers.Wait()
	stopWriting()
	writer.Wait()
	select {
	case sourceErr := <-failed:
		return errors.Join(sourceErr, err)
	default:
		return err
	}
}

// retryAfter is when a failed pass is tried again without any change.
const retryAfter = time.Second

// loop runs passes: at once after a quiet time, MinSyncPeriod apart in a burst,
// and every SyncPeriod to mend what drifted.
func (p *Proxier) loop(ctx context.Context) {
	timer := time.NewTimer(p.cfg.SyncPeriod)
	defer timer.Stop()
	for {
		verify := false
		select {
		case <-ctx.Done():
			return
		case <-p.cfg.Source.Changed():
			p.kube.queued()
		case <-p.node.changed:
			p.source.paths.Forget()
			if !p.node.refresh() {
				continue
			}
		case <-timer.C:
			p.node.refresh()
			verify = true
		}
		timer.Reset(p.reconcile(ctx, verify))
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.cfg.MinSyncPeriod):
		}
	}
}

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
	p.kube.began(objects)
	p.health.Node(objects.Node, objects.ExpectsNode)
	node := p.nodeState(objects.Node)
	d := desire(objects, p.facts(node))
	node.open = d.openPorts()
	p.data.clients.Store(node.clients)

	gone := maps.Clone(p.listeners)
	var unused []*socket
	missing := false
	problems := d.problems
	for i := range d.ports {
		port := &d.ports[i]
		delete(gone, port.Key)
		old, errs := p.servePort(port, node)
		unused = append(unused, old...)
		for _, err := range errs {
			missing = true
			problems = append(problems, Problem{serviceRef(port.Namespace, port.Name), "CannotListen",
				fmt.Sprintf("%s: %v", port.Key, err)})
		}
	}
	served := p.served(gone)
	failed := p.data.capture.apply(ctx, served, node, verify)
	closed := p.settle(served, gone, unused, failed)
	problems = append(problems, p.syncChecks(d.checks, node)...)
	p.data.connections.makeRoom(countSockets(served))
	if ctx.Err() == nil {
		problems = append(problems, p.failures(failed)...)
		problems = append(problems, p.source.problems(p.cfg.NodeName)...)
		p.reporter.report(problems)
	}
	p.measure(d.ports, time.Since(start), failed)
	p.metrics.pass(time.Since(start), len(failed) == 0, len(served), problems)
	if len(failed) > 0 {
		p.health.Synced(p.written(failed)...)
		return min(retryAfter, p.cfg.SyncPeriod)
	}
	if missing && closed {
		return 0 // what was in the way of the missing ones may be gone now
	}
	p.setReady()
	p.health.Synced(p.written(failed)...)
	return p.cfg.SyncPeriod
}

// written are the families that the capture has not failed for.
func (p *Proxier) written(failed map[Family]error) (families []corev1.IPFamily) {
	return ipFamilies(slices.DeleteFunc(p.data.capture.families(), func(f Family) bool { return failed[f] != nil }))
}

func (p *Proxier) measure(ports []Port, took time.Duration, failed map[Family]error) {
	p.kube.noLocalEndpoints(ports)
	for _, family := range p.data.capture.families() {
		p.kube.ended(family, took, failed[family])
	}
}

// nodeState is this node as it is now.
func (p *Proxier) nodeState(node *corev1.Node) *nodeState {
	addresses := p.node.addresses()
	n := &nodeState{addresses: addresses, nodeIPs: p.cfg.NodeIPs, nodePorts: p.cfg.NodePortAddresses,
		clients: newClients(p.cfg.LocalPods, node, addresses.all(), p.source.device)}
	if len(n.nodeIPs) == 0 {
		n.nodeIPs = nodeIPsOf(node)
	}
	if node != nil {
		n.zone = node.Labels[corev1.LabelTopologyZone]
	}
	return n
}

func (p *Proxier) facts(node *nodeState) facts {
	return facts{
		nodeName: p.cfg.NodeName, zone: node.zone, nodeIPs: node.nodeIPs,
		local: node.addresses.all(), own: p.data.capture.own(),
		allowExternal: p.cfg.AllowExternalIPs, loopbackAllow: p.cfg.AllowLoopbackEndpoints,
	}
}

func countSockets(listeners []*listener) (n int) {
	for _, l := range listeners {
		n += len(l.sockets)
	}
	return n
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

// servePort brings the listener of a Port up to date, making it if need be. The
// sockets that it no longer needs are returned: they must outlive their rules.
func (p *Proxier) servePort(port *Port, node *nodeState) (unused []*socket, errs []error) {
	shared := p.sharedPort(port)
	l := p.listeners[port.Key]
	if l == nil {
		l = newListener(p.data, port.Key, p.newPolicy, shared)
		p.listeners[port.Key] = l
	}
	sockets, errs := p.data.capture.sockets(port, l.sockets, node)
	for _, s := range l.sockets {
		if !slices.Contains(sockets, s) {
			unused = append(unused, s)
		}
	}
	if err := l.update(port, sockets, node); err != nil {
		errs = append(errs, err)
	}
	return unused, errs
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
func (p *Proxier) settle(served []*listener, gone map[Key]*listener, unused []*socket, failed map[Family]error) (closed bool) {
	for _, l := range served {
		if failed[l.key.Family] == nil {
			l.applied()
		}
	}
	for key, l := range gone {
		if failed[key.Family] != nil {
			continue
		}
		unused = append(unused, l.sockets...)
		l.sockets = nil
		delete(p.listeners, key)
		p.draining = append(p.draining, l)
	}
	p.unused = slices.DeleteFunc(append(p.unused, unused...), func(s *socket) bool {
		if failed[familyOf(s.addr.Addr())] != nil {
			return false
		}
		s.close()
		p.data.capture.released(s)
		closed = true
		return true
	})
	p.forgetDrained()
	return closed
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

// maxAffineClients bounds the memory of one ServicePort to about 16 MB.
const maxAffineClients = 1 << 16

// sharedPort is what the families of a ServicePort share. What is remembered of
// clients is forgotten when the Service no longer wants affinity.
func (p *Proxier) sharedPort(port *Port) *sharedPort {
	s := p.shared[port.ServicePort]
	if s == nil {
		s = &sharedPort{metrics: p.observed.Port(port.Namespace, port.Name, port.Port, port.Protocol)}
		p.shared[port.ServicePort] = s
	}
	switch {
	case port.Affinity == 0 && s.affinity != nil:
		s.affinity = nil
		s.metrics.NoAffinity()
	case port.Affinity > 0 && s.affinity == nil:
		s.affinity = balancer.NewAffinity(maxAffineClients)
	}
	if s.affinity != nil {
		s.metrics.Affinity(s.affinity.Len(), s.affinity.Evicted())
	}
	return s
}

// forgetShared drops what is left of a ServicePort without listeners.
func (p *Proxier) forgetShared(key Key) {
	for _, family := range []Family{IPv4, IPv6} {
		if p.listeners[Key{key.ServicePort, family}] != nil {
			return
		}
	}
	for _, l := range p.draining {
		if l.key.ServicePort == key.ServicePort && l.active.Load() > 0 {
			return
		}
	}
	if s := p.shared[key.ServicePort]; s != nil {
		s.metrics.Forget()
		delete(p.shared, key.ServicePort)
	}
}

// shutdown leaves nothing behind: first the rules go, then the sockets, then
// the connections.
func (p *Proxier) shutdown() error {
	p.health.Stopping()
	p.checks.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := p.data.capture.remove(ctx)
	if err != nil {
		err = fmt.Errorf("remove the capture: %w (run usher cleanup)", err)
	}
	for _, l := range p.listeners {
		l.close()
	}
	for _, s := range p.unused {
		s.close()
	}
	if n := p.data.connections.count(); n > 0 {
		p.cfg.Log.Infof("waiting up to %s for %d connections to end", p.cfg.DrainTimeout, n)
	}
	ctx, cancel = context.WithTimeout(context.Background(), p.cfg.DrainTimeout)
	defer cancel()
	if n := p.data.connections.drain(ctx); n > 0 {
		p.cfg.Log.Warnf("ended %d connections that were still open", n)
	}
	p.source.paths.Close()
	return err
}

func (p *Proxier) setReady() {
	select {
	case <-p.ready:
	default:
		close(p.ready)
	}
}
