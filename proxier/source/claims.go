package source

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// frontend is what at most one Service may have. An API server allocates
// ClusterIPs and NodePorts, and refuses one that is taken.
type frontend struct {
	addr     netip.Addr // invalid for a NodePort, which is on all addresses of the node
	port     int32
	protocol corev1.Protocol
}

func (f frontend) String() string {
	if !f.addr.IsValid() {
		return fmt.Sprintf("nodePort %d/%s", f.port, f.protocol)
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(f.addr, uint16(f.port)), f.protocol)
}

// claim is a Service's demand for a frontend.
type claim struct {
	frontend
	field string
	line  int // in the file
}

// claimsOf returns what a valid Service claims.
func claimsOf(s *corev1.Service) []claim {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var all []claim
	spec := field.NewPath("spec")
	add := func(addr netip.Addr, port int32, protocol corev1.Protocol, at *field.Path) {
		all = append(all, claim{frontend: frontend{addr, port, protocol}, field: at.String()})
	}
	for i, p := range s.Spec.Ports {
		at := spec.Child("ports").Index(i)
		for _, text := range s.Spec.ClusterIPs {
			addr, _ := parseAddr(text)
			add(addr, p.Port, p.Protocol, at.Child("port"))
		}
		if p.NodePort != 0 {
			add(netip.Addr{}, p.NodePort, p.Protocol, at.Child("nodePort"))
		}
	}
	if port := s.Spec.HealthCheckNodePort; port != 0 {
		add(netip.Addr{}, port, corev1.ProtocolTCP, spec.Child("healthCheckNodePort"))
	}
	return all
}

// claims knows who has which frontend.
type claims map[frontend]object

// conflicts returns a problem for each claim of o that another object has.
func (c claims) conflicts(o object) []problem {
	var problems []problem
	for _, want := range o.claims {
		owner, taken := c[want.frontend]
		if taken && owner.id != o.id {
			problems = append(problems, problem{
				position: position{o.file, want.line}, object: o.id.String(), field: want.field,
				message: fmt.Sprintf("%s belongs to the %s (%s)", want.frontend, owner.id, owner.position),
			})
		}
	}
	return problems
}

func (c claims) take(o object) {
	for _, want := range o.claims {
		c[want.frontend] = o
	}
}
