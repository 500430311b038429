package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/source"
)

// endpoint is an EndpointSlice's endpoint as the choice of usable ones needs it.
type endpoint struct {
	balancer.Endpoint
	ready, serving, terminating bool
	zones, nodes                []string  // for whom it is hinted
	drained                     *override // that takes it out of the choice; nil: none
	stays                       bool      // drained, but ready as Kubernetes has it
}

// leaving says whether it is on its way out and still serves.
func (e endpoint) leaving() bool { return e.serving && e.terminating }

// pool holds the endpoints of a Port before it is known which of them are used.
type pool struct {
	all map[netip.AddrPort]endpoint
	// dials are those that are used or not by whether this process serves them.
	dials []netip.AddrPort
}

// serviceOf is the Service that a slice belongs to; false if it cannot belong to one.
func serviceOf(s *discoveryv1.EndpointSlice) (name serviceName, ok bool) {
	name = serviceName{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
	return name, name.name != "" && (s.AddressType == discoveryv1.AddressTypeIPv4 || s.AddressType == discoveryv1.AddressTypeIPv6)
}

// sliceProblems are what its owner should know of a slice.
func sliceProblems(s *discoveryv1.EndpointSlice) (problems []Problem) {
	ignored := func(why string) {
		problems = append(problems, Problem{
			source.Ref{Kind: "EndpointSlice", Namespace: s.Namespace, Name: s.Name}, "SliceIgnored", "not used: " + why})
	}
	if name, ok := serviceOf(s); name.name == "" {
		ignored("it has no label " + discoveryv1.LabelServiceName)
		return problems
	} else if !ok {
		ignored(fmt.Sprintf("its addressType is %q, not IPv4 or IPv6", s.AddressType))
		return problems
	}
	// A port without a number means all ports to the API, which no Service proxy
	// can serve.
	for i, port := range s.Ports {
		if port.Name == nil || port.Port == nil || *port.Port <= 0 || *port.Port > 65535 {
			ignored(fmt.Sprintf("ports[%d] has no name or no number", i))
		}
	}
	return problems
}

// setEndpoints fills in the endpoints of p (CategorizeEndpoints of kube-proxy is
// the reference). The ClusterSet are the ready endpoints, narrowed by topology
// hints; the LocalSet are those of this node, which hints never touch. Where no
// endpoint of a set is ready, those count that are on their way out and still
// serve.
func (d *desired) setEndpoints(p *Port, from []*discoveryv1.EndpointSlice, c *pool) {
	clear(c.all)
	for _, slice := range from {
		d.addSlice(p, slice, c)
	}
	all := c.all
	p.Known = len(all)
	topology := d.topologyOf(all)
	p.Cluster.Endpoints = usable(all, func(e endpoint) bool { return e.ready && topology.holds(e) })
	p.Local.Endpoints = usable(all, func(e endpoint) bool { return e.ready && d.isLocal(e) })
	if len(p.Cluster.Endpoints) > 0 {
		p.Cluster.Topology = string(topology.kind)
	} else {
		p.Cluster.fallBack(usable(all, endpoint.leaving))
	}
	if len(p.Local.Endpoints) == 0 {
		p.Local.fallBack(usable(all, func(e endpoint) bool { return e.leaving() && d.isLocal(e) }))
	}
	p.Local.Silent = len(p.Cluster.Endpoints) > 0
	if p.Settings.Drain.Asked() {
		p.setStaying(all)
	}
	slices.SortFunc(p.Excluded, func(a, b Exclusion) int {
		return cmp.Or(strings.Compare(a.Addr, b.Addr), strings.Compare(a.Reason, b.Reason))
	})
	for _, e := range p.Excluded {
		d.problem(p.Namespace, p.Name, "EndpointExcluded", fmt.Sprintf("%s: endpoint %s is not used: %s", p.ServicePort, e.Addr, e.Reason))
	}
}

// setStaying tells the endpoints whose connections may go on from those that have
// begun to leave (EndpointConditions.terminating), or are not ready where the
// Service minds.
func (p *Port) setStaying(all map[netip.AddrPort]endpoint) {
	for addr, e := range all {
		switch {
		case e.terminating:
		case e.ready || e.stays || p.Settings.Drain.Unready == annotation.UnreadyKeep:
			p.Staying = append(p.Staying, addr)
		default:
			p.Unready = append(p.Unready, addr)
		}
	}
	slices.SortFunc(p.Staying, netip.AddrPort.Compare)
	slices.SortFunc(p.Unready, netip.AddrPort.Compare)
}

func (e *Eligible) fallBack(leaving []balancer.Endpoint) {
	e.Endpoints, e.Terminating = leaving, len(leaving) > 0
}

// isLocal tells an endpoint on this node; one that does not say where it is
// counts as remote.
func (d *desired) isLocal(e endpoint) bool { return e.Node != "" && e.Node == d.nodeName }

func usable(all map[netip.AddrPort]endpoint, is func(endpoint) bool) []balancer.Endpoint {
	n := 0
	for _, e := range all {
		if is(e) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	list := make([]balancer.Endpoint, 0, n) // it is kept for long
	for _, e := range all {
		if is(e) {
			list = append(list, e.Endpoint)
		}
	}
	slices.SortFunc(list, func(a, b balancer.Endpoint) int { return a.Addr.Compare(b.Addr) })
	return list
}

// addSlice merges a slice into c. A slice's port belongs to a Service port of
// the same name and protocol; its number is the one to dial, whatever the
// Service's targetPort says.
func (d *desired) addSlice(p *Port, slice *discoveryv1.EndpointSlice, c *pool) {
	if slice.AddressType != addressType(p.Family) {
		return
	}
	for _, port := range slice.Ports {
		if port.Name == nil || *port.Name != p.Port || port.Port == nil || *port.Port <= 0 || *port.Port > 65535 {
			continue
		}
		if protocols[corev1.Protocol(deref((*string)(port.Protocol)))] != p.Protocol {
			continue
		}
		for _, e := range slice.Endpoints {
			d.addEndpoint(p, e, uint16(*port.Port), c)
		}
	}
}

func (d *desired) addEndpoint(p *Port, from discoveryv1.Endpoint, port uint16, c *pool) {
	if len(from.Addresses) == 0 {
		return
	}
	// Only the first address counts: the others were never given a meaning.
	ip, ok := ParseAddr(from.Addresses[0])
	if !ok {
		p.Excluded = append(p.Excluded, Exclusion{from.Addresses[0], "not an IP address"})
		return
	}
	addr := netip.AddrPortFrom(ip, port)
	reason := d.mayNotDial(addr, p.Family)
	if reason == "" {
		c.dials = append(c.dials, addr)
		if d.isOwn(addr, p.Protocol) {
			reason = "loop_detected: it is an address that usher itself serves"
		}
	}
	if reason != "" {
		p.Excluded = append(p.Excluded, Exclusion{addr.String(), reason})
		return
	}
	e := endpoint{
		Endpoint: balancer.Endpoint{
			Addr: addr,
			Pod:  podName(p.Namespace, from.TargetRef),
			Node: deref(from.NodeName),
			Zone: deref(from.Zone),
		},
		ready:       isTrue(from.Conditions.Ready, true),
		serving:     isTrue(from.Conditions.Serving, true),
		terminating: isTrue(from.Conditions.Terminating, false),
	}
	if hints := from.Hints; hints != nil {
		for _, z := range hints.ForZones {
			e.zones = append(e.zones, z.Name)
		}
		for _, n := range hints.ForNodes {
			e.nodes = append(e.nodes, n.Name)
		}
	}
	e.drain(d.drained.of(serviceName{p.Namespace, p.Name}, addr, e.Pod))
	if other, taken := c.all[addr]; !taken || e.rank() > other.rank() {
		c.all[addr] = e
	}
}

// rank decides which of two that share an address counts, whatever the order of
// their slices: a live pod beats the ghost of one that had its address, and an
// endpoint that moves between slices counts as what it is at best.
func (e endpoint) rank() (r int) {
	if e.ready {
		r += 4
	}
	if !e.terminating {
		r += 2
	}
	if e.serving {
		r++
	}
	return r
}

// mayNotDial says why nobody may dial an address, or "". We dial from the
// node's own network, where some addresses mean something that whoever wrote
// the EndpointSlice has no right to.
func (d *desired) mayNotDial(addr netip.AddrPort, family Family) string {
	ip := addr.Addr()
	switch {
	case familyOf(ip) != family:
		return "not an address of its slice's family"
	case ip.IsUnspecified():
		return "unspecified address"
	case ip.IsMulticast():
		return "multicast address"
	case ip.IsLinkLocalUnicast():
		return "link-local address"
	case ip.IsLoopback() && !d.loopbackAllow:
		return "loopback address"
	}
	return ""
}

func addressType(f Family) discoveryv1.AddressType {
	if f == IPv6 {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

func podName(namespace string, ref *corev1.ObjectReference) string {
	if ref == nil || ref.Kind != "Pod" {
		return ""
	}
	if ref.Namespace != "" {
		namespace = ref.Namespace
	}
	return namespace + "/" + ref.Name
}

func isTrue(b *bool, ifNil bool) bool {
	if b == nil {
		return ifNil
	}
	return *b
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
