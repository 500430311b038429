package proxier

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/balancer"
)

// endpoint is an EndpointSlice's endpoint as the choice of usable ones needs it.
type endpoint struct {
	balancer.Endpoint
	ready, serving, terminating bool
}

// setEndpoints fills in the endpoints of p: the ready ones, or if there is none
// those that are on their way out and still serve.
func (d *desired) setEndpoints(p *Port) {
	all := map[netip.AddrPort]endpoint{}
	for _, slice := range d.slices[serviceName{p.Namespace, p.Name}] {
		d.addSlice(p, slice, all)
	}
	p.Endpoints = usable(all, func(e endpoint) bool { return e.ready })
	if len(p.Endpoints) == 0 {
		p.Endpoints = usable(all, func(e endpoint) bool { return e.serving && e.terminating })
	}
	slices.SortFunc(p.Excluded, func(a, b Exclusion) int { return strings.Compare(a.Addr, b.Addr) })
	for _, e := range p.Excluded {
		d.problems = append(d.problems, Problem{serviceRef(p.Namespace, p.Name), "EndpointExcluded",
			fmt.Sprintf("%s: endpoint %s is not used: %s", p.ServicePort, e.Addr, e.Reason)})
	}
}

func usable(all map[netip.AddrPort]endpoint, is func(endpoint) bool) []balancer.Endpoint {
	var list []balancer.Endpoint
	for _, e := range all {
		if is(e) {
			list = append(list, e.Endpoint)
		}
	}
	slices.SortFunc(list, func(a, b balancer.Endpoint) int { return a.Addr.Compare(b.Addr) })
	return list
}

// addSlice merges a slice into all. A slice's port belongs to a Service port of
// the same name and protocol; its number is the one to dial, whatever the
// Service's targetPort says.
func (d *desired) addSlice(p *Port, slice *discoveryv1.EndpointSlice, all map[netip.AddrPort]endpoint) {
	if slice.AddressType != addressType(p.Family) {
		return
	}
	for _, port := range slice.Ports {
		if port.Port == nil || *port.Port <= 0 || *port.Port > 65535 || deref(port.Name) != p.Port {
			continue
		}
		if protocol := port.Protocol; protocol != nil && *protocol != corev1.ProtocolTCP {
			continue
		}
		for _, e := range slice.Endpoints {
			d.addEndpoint(p, e, uint16(*port.Port), all)
		}
	}
}

func (d *desired) addEndpoint(p *Port, from discoveryv1.Endpoint, port uint16, all map[netip.AddrPort]endpoint) {
	if len(from.Addresses) == 0 {
		return
	}
	// Only the first address counts: the others were never given a meaning.
	ip, ok := parseIP(from.Addresses[0])
	if !ok {
		p.Excluded = append(p.Excluded, Exclusion{from.Addresses[0], "not an IP address"})
		return
	}
	addr := netip.AddrPortFrom(ip, port)
	if reason := d.mayNotDial(addr, p.Family); reason != "" {
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
	if other, taken := all[addr]; !taken || e.rank() > other.rank() {
		all[addr] = e
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

// mayNotDial says why an address must not be dialled, or "". We dial from the
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
	case d.isOwnFrontend(addr):
		return "loop_detected: it is an address that usher itself serves"
	}
	return ""
}

func (d *desired) isOwnFrontend(addr netip.AddrPort) bool {
	family := familyOf(addr.Addr())
	if _, ok := d.claims[claim{Frontend{ClusterIP, addr.Addr(), addr.Port()}, family, "tcp"}]; ok {
		return true
	}
	if !d.local[addr.Addr()] {
		return false
	}
	_, isNodePort := d.claims[claim{Frontend{Kind: NodePort, Port: addr.Port()}, family, "tcp"}]
	return isNodePort || d.own[addr.Port()]
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
