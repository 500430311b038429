package source

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// What is filled in here is what the API server fills in
// (kubernetes/pkg/apis/core/v1/defaults.go, .../discovery/v1/defaults.go), as
// far as a proxy reads it. Addresses and NodePorts are not allocated.

func defaultNamespace(m *metav1.ObjectMeta) {
	if m.Namespace == "" {
		m.Namespace = metav1.NamespaceDefault
	}
}

// defaultTo sets a field that was left empty.
func defaultTo[T comparable](field *T, value T) {
	var empty T
	if *field == empty {
		*field = value
	}
}

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	defaultTo(&spec.Type, corev1.ServiceTypeClusterIP)
	defaultTo(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		defaultAffinityTimeout(spec)
	}
	for i := range spec.Ports {
		defaultTo(&spec.Ports[i].Protocol, corev1.ProtocolTCP)
		defaultTo(&spec.Ports[i].TargetPort, intstr.FromInt32(spec.Ports[i].Port))
	}
	if spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	if spec.InternalTrafficPolicy == nil {
		cluster := corev1.ServiceInternalTrafficPolicyCluster
		spec.InternalTrafficPolicy = &cluster
	}
	if isExternal(s) {
		defaultTo(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	defaultAddresses(spec)
}

// isExternal reports whether a Service has addresses for clients outside the
// cluster, so that externalTrafficPolicy means something.
func isExternal(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer ||
		s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

func defaultAffinityTimeout(spec *corev1.ServiceSpec) {
	if spec.SessionAffinityConfig == nil {
		spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{}
	}
	if spec.SessionAffinityConfig.ClientIP == nil {
		spec.SessionAffinityConfig.ClientIP = &corev1.ClientIPConfig{}
	}
	if spec.SessionAffinityConfig.ClientIP.TimeoutSeconds == nil {
		threeHours := corev1.DefaultClientIPServiceAffinitySeconds
		spec.SessionAffinityConfig.ClientIP.TimeoutSeconds = &threeHours
	}
}

// defaultAddresses derives clusterIP, clusterIPs and ipFamilies from each
// other.
func defaultAddresses(spec *corev1.ServiceSpec) {
	if spec.ClusterIP == "" && len(spec.ClusterIPs) > 0 {
		spec.ClusterIP = spec.ClusterIPs[0]
	}
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = familiesOf(spec.ClusterIPs)
	}
	if spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if len(spec.ClusterIPs) > 1 {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		spec.IPFamilyPolicy = &policy
	}
}

func familiesOf(ips []string) []corev1.IPFamily {
	var families []corev1.IPFamily
	for _, text := range ips {
		if addr, ok := parseAddr(text); ok {
			families = append(families, familyOf(addr))
		}
	}
	return slices.Clip(families)
}

func defaultSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		defaultPort(&s.Ports[i])
	}
}

func defaultPort(p *discoveryv1.EndpointPort) {
	if p.Name == nil {
		p.Name = new(string)
	}
	if p.Protocol == nil {
		tcp := corev1.ProtocolTCP
		p.Protocol = &tcp
	}
}
