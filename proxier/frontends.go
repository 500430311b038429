package proxier

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// served are the addresses that this process serves. It is never changed, but what
// is claimed follows the present pass. It is safe for concurrent use.
type served struct {
	claims    *claims
	addresses map[netip.Addr]bool // of this node
	listeners map[uint16]bool     // ports that are listened on for redirected traffic
}

// on is the same with other listener ports.
func (s *served) on(listeners map[uint16]bool) *served {
	other := *s
	other.listeners = listeners
	return &other
}

// isOwn tells whether somebody who sends to an address gets to this process.
func (s *served) isOwn(addr netip.AddrPort, protocol string) bool {
	family := familyOf(addr.Addr())
	if s.claims.has(claim{addr.Addr(), addr.Port(), family, protocol}) {
		return true
	}
	if !s.addresses[addr.Addr()] {
		return false
	}
	return s.listeners[addr.Port()] || s.claims.has(claim{netip.Addr{}, addr.Port(), family, protocol})
}

// grant leaves the ports those frontends that no Service with a better claim has,
// and leaves out ports without any. wishes are those of the ports, in their order.
func (d *desired) grant(wishes []wish) {
	for _, p := range d.ports {
		granted := p.Frontends[:0]
		for i, f := range p.Frontends {
			switch owner := d.claims.owner(wishes[i].claim); {
			case owner == &wishes[i]:
				granted = append(granted, f)
			case owner.servicePort() != p.ServicePort:
				d.problem(p.Namespace, p.Name, "AddressTaken",
					fmt.Sprintf("%s is not served for %s: %s has it", f, p.ServicePort, owner.servicePort()))
			}
		}
		wishes = wishes[len(p.Frontends):]
		p.Frontends = slices.Clip(granted)
	}
	d.ports = slices.DeleteFunc(d.ports, func(p *Port) bool { return len(p.Frontends) == 0 })
}

// internalPolicy is the policy of the ClusterIP, externalPolicy that of all
// other frontends.
func internalPolicy(s *corev1.Service) Policy {
	if p := s.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		return InternalLocal
	}
	return Cluster
}

func externalPolicy(s *corev1.Service) Policy {
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		return ExternalLocal
	}
	return Cluster
}

// external are the addresses of a Service beside its ClusterIPs, with what is
// to be told about them.
type external struct {
	addrs  []Frontend // without port
	ranges map[Family][]netip.Prefix
}

func (d *desired) external(s *corev1.Service) external {
	e := external{}
	policy := externalPolicy(s)
	vips := d.loadBalancerIPs(s)
	for _, ip := range vips {
		e.addrs = append(e.addrs, Frontend{Kind: LoadBalancer, Addr: ip, Policy: policy})
	}
	for _, ip := range d.externalIPs(s) {
		e.addrs = append(e.addrs, Frontend{Kind: ExternalIP, Addr: ip, Policy: policy})
	}
	if len(s.Spec.LoadBalancerSourceRanges) == 0 {
		return e
	}
	e.ranges = map[Family][]netip.Prefix{}
	for _, family := range []Family{IPv4, IPv6} {
		e.ranges[family] = d.sourceRanges(s, family, vips)
	}
	return e
}

// loadBalancerIPs are the addresses that a load balancer says it sends to us
// (Service.status.loadBalancer). One that only proxies (ipMode) is left alone.
func (d *desired) loadBalancerIPs(s *corev1.Service) []netip.Addr {
	var texts []string
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			texts = append(texts, in.IP)
		}
	}
	return d.servable(s, "load balancer address", texts, func(ip netip.Addr) (reason, why string) {
		if slices.Contains(d.nodeIPs, ip) {
			return "NodeAddress", "it is the node's own, and the Service could take the node's ports"
		}
		return "", ""
	})
}

// externalIPs are the addresses that whoever wrote the Service claims for it.
// The API server lets everybody claim any, so the node's owner has to allow them.
func (d *desired) externalIPs(s *corev1.Service) []netip.Addr {
	return d.servable(s, "externalIP", s.Spec.ExternalIPs, func(ip netip.Addr) (reason, why string) {
		if !contains(d.allowExternal, ip) {
			return "ExternalIPNotAllowed", "--allow-external-ips does not allow it"
		}
		return "", ""
	})
}

// servable leaves those of a Service's addresses that may be served, and tells
// why the others are not. refuse says what is wrong with an address of this kind.
func (d *desired) servable(s *corev1.Service, kind string, texts []string, refuse func(netip.Addr) (reason, why string)) (ips []netip.Addr) {
	for _, text := range texts {
		if strings.TrimSpace(text) == "" {
			continue
		}
		ip, ok := ParseAddr(text)
		if !ok {
			d.problem(s.Namespace, s.Name, "BadAddress", fmt.Sprintf("%s %q is not served: it is not an IP address", kind, text))
			continue
		}
		reason, why := refuse(ip)
		if bad := d.unservable(ip); reason == "" && bad != "" {
			reason, why = "BadAddress", bad
		}
		if reason != "" {
			d.problem(s.Namespace, s.Name, reason, fmt.Sprintf("%s %s is not served: %s", kind, ip, why))
			continue
		}
		ips = append(ips, ip)
	}
	return ips
}

// unservable says why an address cannot be a Service's, or "".
func (d *desired) unservable(ip netip.Addr) string {
	switch {
	case ip.IsUnspecified():
		return "it is the unspecified address"
	case ip.IsMulticast():
		return "it is a multicast address"
	case ip.IsLinkLocalUnicast():
		return "it is a link-local address"
	case ip.IsLoopback() && !d.loopbackAllow:
		return "it is a loopback address"
	}
	return ""
}

// sourceRanges are the clients of one family that may use the addresses of the
// load balancer, nil for all: no range of that family, or one that holds every
// address, restricts nothing.
func (d *desired) sourceRanges(s *corev1.Service, family Family, vips []netip.Addr) (ranges []netip.Prefix) {
	for _, text := range s.Spec.LoadBalancerSourceRanges {
		if strings.TrimSpace(text) == "" {
			continue
		}
		p, ok := ParsePrefix(text)
		switch {
		case !ok && family == IPv4: // told once
			d.problem(s.Namespace, s.Name, "BadSourceRange", fmt.Sprintf("loadBalancerSourceRanges: %q is no range of addresses and has no effect", text))
		case !ok || familyOf(p.Addr()) != family:
		case p.Bits() == 0:
			return nil
		default:
			ranges = append(ranges, p)
		}
	}
	if len(ranges) == 0 {
		return nil
	}
	// A host that has the load balancer's address on an interface uses it as its
	// source.
	for _, ip := range d.nodeIPs {
		if familyOf(ip) == family && contains(ranges, ip) {
			return append(ranges, single(vips, family)...)
		}
	}
	return ranges
}

// single are the prefixes that hold one address each.
func single(ips []netip.Addr, family Family) (prefixes []netip.Prefix) {
	for _, ip := range ips {
		if familyOf(ip) == family {
			prefixes = append(prefixes, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	return prefixes
}
