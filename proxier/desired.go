package proxier

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/annotation"
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
	nodeName      string
	zone          string               // of the node, empty if unknown
	nodeIPs       []netip.Addr         // the node's addresses as the Node object tells them, best first
	local         map[netip.Addr]bool  // all addresses of this node
	own           map[uint16]bool      // ports that this process listens on for redirected traffic
	allowExternal []netip.Prefix       // where spec.externalIPs may be
	loopbackAllow bool                 // loopback addresses may be served and dialled
	defaults      *annotation.Settings // of Services that do not say otherwise
	policies      []string             // names of all balancer policies
	forbidden     []string             // annotations without effect, without their prefix
	drained       overrides            // what somebody on this node keeps from the choice
}

// desired is the desired state, of one Service while it is being computed and then
// of all.
type desired struct {
	facts
	served
	planner  *planner // that has computed it
	ports    []*Port
	checks   []healthCheck
	problems []Problem
}

// desire computes what should be served, from nothing but its arguments. A
// Service that cannot be served, or a part of it, becomes a Problem and never
// touches the others.
//
// Of two that claim the same address and port the older Service gets it, but a
// ClusterIP goes before all else: the cluster allocates those, the others are
// written by whoever may write a Service.
func desire(objects source.Objects, f facts) *desired { return newPlanner().desire(objects, f) }

// maxProblems is how many problems of one kind an object may have told singly.
const maxProblems = 10

// limited sums up what is told too often: every line of the log and every Event
// that one object takes is one less for others.
func limited(problems []Problem) (list []Problem) {
	if len(problems) <= maxProblems {
		return problems
	}
	type kind struct {
		about  source.Ref
		reason string
	}
	count := map[kind]int{}
	for _, p := range problems {
		k := kind{p.About, p.Reason}
		if count[k]++; count[k] <= maxProblems {
			list = append(list, p)
		}
	}
	for k, n := range count {
		if n > maxProblems {
			list = append(list, Problem{k.about, k.reason, fmt.Sprintf("and %d more", n-maxProblems)})
		}
	}
	return list
}

type serviceName struct{ namespace, name string }

// addPorts adds the ports of a Service in the families in which it has a
// ClusterIP; without one nothing of that family is served.
func (d *desired) addPorts(s *corev1.Service) {
	affinity, settings := affinityOf(s), d.annotated(s)
	ips := d.clusterIPs(s)
	for _, port := range s.Spec.Ports {
		protocol, ok := protocols[port.Protocol]
		if !ok {
			d.problem(s.Namespace, s.Name, "NotServed", fmt.Sprintf("port %s: %s is not served, only TCP and UDP are", portName(port), port.Protocol))
			continue
		}
		for _, ip := range ips {
			p := &Port{
				Key: Key{
					ServicePort: ServicePort{Namespace: s.Namespace, Name: s.Name, Port: port.Name, Protocol: protocol},
					Family:      familyOf(ip),
				},
				Frontends: []Frontend{{Kind: ClusterIP, Addr: ip, Port: uint16(port.Port), Policy: internalPolicy(s)}},
				Affinity:  affinity,
				Settings:  settings,
			}
			if !slices.ContainsFunc(d.ports, func(other *Port) bool { return other.Key == p.Key }) { // the API allows no other
				d.ports = append(d.ports, p)
			}
		}
	}
}

// addExternalFrontends adds all frontends but the ClusterIPs to the ports of a
// Service.
func (d *desired) addExternalFrontends(s *corev1.Service) {
	if len(d.ports) == 0 {
		return
	}
	e := d.external(s)
	for _, p := range d.ports {
		port := servicePort(s, p.ServicePort)
		if port.NodePort != 0 {
			p.Frontends = append(p.Frontends, Frontend{Kind: NodePort, Port: uint16(port.NodePort), Policy: externalPolicy(s)})
		}
		for _, f := range e.addrs {
			if familyOf(f.Addr) == p.Family {
				f.Port = uint16(port.Port)
				p.Frontends = append(p.Frontends, f)
			}
		}
		p.SourceRanges = e.ranges[p.Family]
	}
}

// protocols are those that are served, by what Kubernetes calls them; without a
// name it is TCP.
var protocols = map[corev1.Protocol]string{
	"":                 tcpProtocol,
	corev1.ProtocolTCP: tcpProtocol,
	corev1.ProtocolUDP: udpProtocol,
}

// servicePort finds what the Service says of a port.
func servicePort(s *corev1.Service, port ServicePort) corev1.ServicePort {
	i := slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool {
		return p.Name == port.Port && protocols[p.Protocol] == port.Protocol
	})
	return s.Spec.Ports[i]
}

func portName(p corev1.ServicePort) string {
	if p.Name != "" {
		return p.Name
	}
	return fmt.Sprint(p.Port)
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
		ip, ok := ParseAddr(text)
		if !ok {
			d.problem(s.Namespace, s.Name, "BadAddress", fmt.Sprintf("clusterIP %q is not an IP address", text))
			continue
		}
		ips = append(ips, ip)
	}
	return ips
}

// affinityOf is the timeout of session affinity, zero if there is none. The API
// server fills the timeout in; what is without one has its default.
func affinityOf(s *corev1.Service) time.Duration {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil && *c.ClientIP.TimeoutSeconds > 0 {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

func (d *desired) problem(namespace, name, reason, message string) {
	d.problems = append(d.problems, Problem{serviceRef(namespace, name), reason, message})
}

func serviceRef(namespace, name string) source.Ref {
	return source.Ref{Kind: "Service", Namespace: namespace, Name: name}
}
