package source

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// validateService checks a Service with its defaults filled in.
func validateService(s *corev1.Service) checks {
	var c checks
	spec := field.NewPath("spec")
	c.meta(s, isServiceName)
	oneOf(&c, spec.Child("type"), s.Spec.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return c // served by DNS alone
	}
	c.clusterIPs(spec, &s.Spec)
	c.servicePorts(spec.Child("ports"), &s.Spec)
	c.affinity(spec, &s.Spec)
	c.trafficPolicies(spec, s)
	c.externalAddresses(spec, &s.Spec)
	c.loadBalancer(field.NewPath("status", "loadBalancer", "ingress"), s.Status.LoadBalancer.Ingress)
	return c
}

const noClusterIP = "needs an address: nothing allocates one here"

func (c *checks) clusterIPs(spec *field.Path, s *corev1.ServiceSpec) {
	if s.ClusterIP == "" {
		c.refuse(spec.Child("clusterIP"), noClusterIP)
		return
	}
	if s.ClusterIPs[0] != s.ClusterIP {
		c.refuse(spec.Child("clusterIPs").Index(0), "must be the same as clusterIP, %s", abridge(s.ClusterIP))
	}
	if len(s.ClusterIPs) > 2 {
		c.refuse(spec.Child("clusterIPs").Index(2), "there can be two at most, one of each family")
	}
	// With one address both fields say the same; name the one that was written.
	at := func(i int) *field.Path { return spec.Child("clusterIPs").Index(i) }
	if len(s.ClusterIPs) == 1 {
		at = func(int) *field.Path { return spec.Child("clusterIP") }
	}
	var families []corev1.IPFamily
	for i, text := range s.ClusterIPs {
		if addr := c.address(at(i), text); addr.IsValid() {
			families = append(families, familyOf(addr))
		}
	}
	if len(families) == len(s.ClusterIPs) {
		c.families(spec, s, families)
	}
}

func (c *checks) families(spec *field.Path, s *corev1.ServiceSpec, found []corev1.IPFamily) {
	if len(found) == 2 && found[0] == found[1] {
		c.refuse(spec.Child("clusterIPs").Index(1), "%s is of the same family as %s", s.ClusterIPs[1], s.ClusterIPs[0])
		return
	}
	if len(s.IPFamilies) > len(found) {
		c.refuse(spec.Child("ipFamilies").Index(len(found)), "%s has no address in clusterIPs", abridge(string(s.IPFamilies[len(found)])))
	}
	if len(s.IPFamilies) < len(found) {
		c.refuse(spec.Child("ipFamilies"), "must name the family of each of clusterIPs")
	}
	for i := range min(len(s.IPFamilies), len(found)) {
		if s.IPFamilies[i] != found[i] {
			c.refuse(spec.Child("ipFamilies").Index(i), "%s, but clusterIPs[%d] is %s", abridge(string(s.IPFamilies[i])), i, s.ClusterIPs[i])
		}
	}
}

func (c *checks) servicePorts(at *field.Path, s *corev1.ServiceSpec) {
	if len(s.Ports) == 0 {
		c.refuse(at, "needs at least one port")
	}
	type number struct {
		port     int32
		protocol corev1.Protocol
	}
	names := make(map[string]bool)
	ports, nodePorts := make(map[number]bool), make(map[number]bool)
	for i, p := range s.Ports {
		at := at.Index(i)
		c.portName(at.Child("name"), p.Name, len(s.Ports), names)
		c.port(at.Child("port"), p.Port)
		c.protocol(at.Child("protocol"), p.Protocol)
		if port := (number{p.Port, p.Protocol}); ports[port] {
			c.refuse(at.Child("port"), "%d/%s is another port of this Service already", p.Port, p.Protocol)
		} else {
			ports[port] = true
		}
		if p.NodePort == 0 {
			continue
		}
		c.nodePort(at.Child("nodePort"), s.Type, p.NodePort)
		if port := (number{p.NodePort, p.Protocol}); nodePorts[port] {
			c.refuse(at.Child("nodePort"), "%d/%s is the nodePort of another port of this Service", p.NodePort, p.Protocol)
		} else {
			nodePorts[port] = true
		}
	}
}

func (c *checks) nodePort(at *field.Path, t corev1.ServiceType, number int32) {
	c.port(at, number)
	if t == corev1.ServiceTypeClusterIP {
		c.refuse(at, "only Services of type NodePort or LoadBalancer have one")
	}
}

func (c *checks) affinity(spec *field.Path, s *corev1.ServiceSpec) {
	oneOf(c, spec.Child("sessionAffinity"), s.SessionAffinity, corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP)
	config := s.SessionAffinityConfig
	if s.SessionAffinity != corev1.ServiceAffinityClientIP || config == nil || config.ClientIP == nil {
		return
	}
	const day = 86400
	if seconds := *config.ClientIP.TimeoutSeconds; seconds < 1 || seconds > day {
		c.refuse(spec.Child("sessionAffinityConfig", "clientIP", "timeoutSeconds"), "must be from 1 to %d, not %d", day, seconds)
	}
}

func (c *checks) trafficPolicies(spec *field.Path, s *corev1.Service) {
	oneOf(c, spec.Child("internalTrafficPolicy"), *s.Spec.InternalTrafficPolicy,
		corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	external := spec.Child("externalTrafficPolicy")
	if isExternal(s) {
		oneOf(c, external, s.Spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	} else if s.Spec.ExternalTrafficPolicy != "" {
		c.refuse(external, "only for Services of type NodePort or LoadBalancer, or with externalIPs")
	}
	if port := s.Spec.HealthCheckNodePort; port != 0 {
		at := spec.Child("healthCheckNodePort")
		c.port(at, port)
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
			c.refuse(at, "only for type LoadBalancer with externalTrafficPolicy Local")
		}
	}
}

func (c *checks) externalAddresses(spec *field.Path, s *corev1.ServiceSpec) {
	for i, text := range s.ExternalIPs {
		c.address(spec.Child("externalIPs").Index(i), text)
	}
	ranges := spec.Child("loadBalancerSourceRanges")
	for i, text := range s.LoadBalancerSourceRanges {
		if _, _, err := netutils.ParseCIDRSloppy(strings.TrimSpace(text)); err != nil {
			c.refuse(ranges.Index(i), "%q is no range of addresses such as 10.0.0.0/8", abridge(text))
		}
	}
	if len(s.LoadBalancerSourceRanges) > 0 && s.Type != corev1.ServiceTypeLoadBalancer {
		c.refuse(ranges, "only for type LoadBalancer")
	}
}

func (c *checks) loadBalancer(at *field.Path, ingress []corev1.LoadBalancerIngress) {
	for i, in := range ingress {
		if in.IP == "" {
			continue // a hostname, which is not served here
		}
		var addr netip.Addr
		if addr = c.address(at.Index(i).Child("ip"), in.IP); !addr.IsValid() {
			continue
		}
		if in.IPMode != nil {
			oneOf(c, at.Index(i).Child("ipMode"), *in.IPMode, corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy)
		}
	}
}
