package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	netutils "k8s.io/utils/net"

	"github.com/usher-proxy/usher/proxier/source"
)

// Problem is something about an object that its owner should know.
type Problem struct {
	About   source.Ref
	Reason  string // CamelCase, as in Kubernetes Events
	Message string
}

// facts are what the desired state depends on beside the objects.
type facts struct {
	local         map[netip.Addr]bool // addresses of this node
	own           map[uint16]bool     // ports that this process listens on for redirected traffic
	loopbackAllow bool                // loopback endpoints may be dialled
}

// desiredPorts computes what should be served, from nothing but its arguments.
// A Service that cannot be served, or a part of it, becomes a Problem and never
// touches the others.
func desiredPorts(objects source.Objects, f facts) ([]Port, []Problem) {
	d := desired{facts: f, slices: slicesByService(objects.Slices), claims: map[claim]ServicePort{}}
	for _, s := range oldestFirst(objects.Services) {
		d.addService(s)
	}
	for i := range d.ports {
		d.setEndpoints(&d.ports[i])
	}
	return d.ports, d.problems
}

type desired struct {
	facts
	slices   map[serviceName][]*discoveryv1.EndpointSlice
	ports    []Port
	problems []Problem
	claims   map[claim]ServicePort
}

type serviceName struct{ namespace, name string }

// claim is a frontend together with what else tells two of them apart.
type claim struct {
	Frontend
	family   Family
	protocol string
}

// oldestFirst orders Services so that of two that claim the same address and
// port the older one keeps it, on every node alike.
func oldestFirst(services []*corev1.Service) []*corev1.Service {
	return slices.SortedFunc(slices.Values(services), func(a, b *corev1.Service) int {
		return cmp.Or(
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			strings.Compare(a.Namespace, b.Namespace),
			strings.Compare(a.Name, b.Name))
	})
}

func slicesByService(all []*discoveryv1.EndpointSlice) map[serviceName][]*discoveryv1.EndpointSlice {
	grouped := map[serviceName][]*discoveryv1.EndpointSlice{}
	for _, s := range all {
		if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
			key := serviceName{s.Namespace, name}
			grouped[key] = append(grouped[key], s)
		}
	}
	return grouped
}

func (d *desired) addService(s *corev1.Service) {
	if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return
	}
	for _, what := range unserved(s) {
		d.problem(s, "NotServed", what)
	}
	for _, ip := range d.clusterIPs(s) {
		for _, port := range s.Spec.Ports {
			d.addPort(s, ip, port)
		}
	}
}

func (d *desired) addPort(s *corev1.Service, clusterIP netip.Addr, port corev1.ServicePort) {
	if port.Protocol != corev1.ProtocolTCP && port.Protocol != "" {
		d.problem(s, "NotServed", fmt.Sprintf("port %s: %s is not served yet, only TCP is", portName(port), port.Protocol))
		return
	}
	p := Port{Key: Key{
		ServicePort: ServicePort{Namespace: s.Namespace, Name: s.Name, Port: port.Name, Protocol: "tcp"},
		Family:      familyOf(clusterIP),
	}}
	d.addFrontend(s, &p, Frontend{Kind: ClusterIP, Addr: clusterIP, Port: uint16(port.Port)})
	if port.NodePort != 0 {
		d.addFrontend(s, &p, Frontend{Kind: NodePort, Port: uint16(port.NodePort)})
	}
	if len(p.Frontends) > 0 {
		d.ports = append(d.ports, p)
	}
}

func portName(p corev1.ServicePort) string {
	if p.Name != "" {
		return p.Name
	}
	return fmt.Sprint(p.Port)
}

func (d *desired) addFrontend(s *corev1.Service, p *Port, f Frontend) {
	c := claim{f, p.Family, p.Protocol}
	if owner, taken := d.claims[c]; taken {
		d.problem(s, "AddressTaken", fmt.Sprintf("%s is not served for %s: the older %s has it", f, p.ServicePort, owner))
		return
	}
	d.claims[c] = p.ServicePort
	p.Frontends = append(p.Frontends, f)
}

// clusterIPs returns the ClusterIP of each family (Service.spec.clusterIPs; the
// single clusterIP where that is empty).
func (d *desired) clusterIPs(s *corev1.Service) []netip.Addr {
	texts := s.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{s.Spec.ClusterIP}
	}
	var ips []netip.Addr
	for _, text := range texts {
		ip, ok := parseIP(text)
		if !ok {
			d.problem(s, "BadAddress", fmt.Sprintf("clusterIP %q is not an IP address", text))
			continue
		}
		ips = append(ips, ip)
	}
	return ips
}

// unserved names what a Service asks for and does not get yet.
func unserved(s *corev1.Service) (missing []string) {
	spec := &s.Spec
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		missing = append(missing, "sessionAffinity ClientIP is not honoured yet")
	}
	if p := spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		missing = append(missing, "internalTrafficPolicy Local is not honoured yet: endpoints of all nodes are used")
	}
	if spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		missing = append(missing, "externalTrafficPolicy Local is not honoured yet: endpoints of all nodes are used")
	}
	if len(spec.ExternalIPs) > 0 {
		missing = append(missing, "externalIPs are not served yet")
	}
	if len(s.Status.LoadBalancer.Ingress) > 0 {
		missing = append(missing, "load balancer addresses are not served yet")
	}
	return missing
}

func (d *desired) problem(s *corev1.Service, reason, message string) {
	d.problems = append(d.problems, Problem{serviceRef(s.Namespace, s.Name), reason, message})
}

func serviceRef(namespace, name string) source.Ref {
	return source.Ref{Kind: "Service", Namespace: namespace, Name: name}
}

// parseIP reads an address as Kubernetes does: surrounding space and leading
// zeros are accepted, and an IPv4 address in IPv6 clothes is an IPv4 address.
func parseIP(text string) (netip.Addr, bool) {
	ip, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(strings.TrimSpace(text)))
	return ip.Unmap(), ok
}
