package source

import (
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// annotationPrefix begins the names of the annotations that Services address to usher.
const annotationPrefix = "usher-proxy.io/"

// What very many objects say in the same words is kept once.

var (
	yes, no  = true, false
	tcp, udp = corev1.ProtocolTCP, corev1.ProtocolUDP
)

func sharedBool(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &yes
	}
	return &no
}

func sharedProtocol(p *corev1.Protocol) *corev1.Protocol {
	switch {
	case p != nil && *p == tcp:
		return &tcp
	case p != nil && *p == udp:
		return &udp
	}
	return p
}

// shared is the one string of its kind.
func shared(s string) string { return unique.Make(s).Value() }

func share(s *string) {
	if s != nil {
		*s = shared(*s)
	}
}

// stripService keeps of a Service what is served by it: labels and selectors are for
// others.
func stripService(s *corev1.Service) {
	stripMeta(&s.ObjectMeta, func(key string) bool { return strings.HasPrefix(key, annotationPrefix) })
	s.Labels, s.Spec.Selector, s.Status.Conditions = nil, nil, nil
}

func stripSlice(s *discoveryv1.EndpointSlice) {
	stripMeta(&s.ObjectMeta, func(key string) bool { return key == corev1.EndpointsLastChangeTriggerTime })
	if name, ok := s.Labels[discoveryv1.LabelServiceName]; ok {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	} else {
		s.Labels = nil
	}
	for i := range s.Ports {
		share(s.Ports[i].Name)
		s.Ports[i].Protocol, s.Ports[i].AppProtocol = sharedProtocol(s.Ports[i].Protocol), nil
	}
	s.Endpoints = append(make([]discoveryv1.Endpoint, 0, len(s.Endpoints)), s.Endpoints...) // without the room to grow
	for i := range s.Endpoints {
		stripEndpoint(&s.Endpoints[i], s.Namespace)
	}
}

func stripEndpoint(e *discoveryv1.Endpoint, namespace string) {
	e.DeprecatedTopology, e.Hostname = nil, nil
	share(e.NodeName)
	share(e.Zone)
	c := &e.Conditions
	c.Ready, c.Serving, c.Terminating = sharedBool(c.Ready), sharedBool(c.Serving), sharedBool(c.Terminating)
	if ref := e.TargetRef; ref != nil {
		if ref.Namespace == namespace {
			ref.Namespace = namespace
		}
		*ref = corev1.ObjectReference{Kind: shared(ref.Kind), Namespace: ref.Namespace, Name: ref.Name}
	}
	if e.Hints != nil {
		for i := range e.Hints.ForZones {
			share(&e.Hints.ForZones[i].Name)
		}
		for i := range e.Hints.ForNodes {
			share(&e.Hints.ForNodes[i].Name)
		}
	}
}

// stripMeta keeps what names a version of an object, and those of its annotations
// that are wanted.
func stripMeta(m *metav1.ObjectMeta, wanted func(key string) bool) {
	m.ManagedFields, m.OwnerReferences, m.Finalizers, m.GenerateName = nil, nil, nil, ""
	m.Namespace = shared(m.Namespace)
	for key := range m.Annotations {
		if !wanted(key) {
			delete(m.Annotations, key)
		}
	}
	if len(m.Annotations) == 0 {
		m.Annotations = nil
	}
}
