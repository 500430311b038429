package source

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// labelProxyName on a Service names the proxy that serves it, in place of the
// node's ordinary one. Its presence counts, also with an empty value.
const labelProxyName = "service.kubernetes.io/service-proxy-name"

// A filter says which objects are ours. The API server applies it as
// selectors, Manifests applies it to what it has read.
type filter struct {
	services labels.Selector
	slices   labels.Selector
	// unallocated lets Services be without clusterIP, as they are on their way to an
	// API server.
	unallocated bool
}

// ordinaryServices is the filter of the proxy that serves all Services which
// name no other one.
func ordinaryServices() filter {
	return filter{services: lacks(labelProxyName), slices: lacks(corev1.IsHeadlessService)}
}

// servicesOf is the filter of the proxy of that name; the empty name is that of
// the ordinary one.
func servicesOf(proxyName string) filter {
	if proxyName == "" {
		return ordinaryServices()
	}
	ours := labels.SelectorFromSet(labels.Set{labelProxyName: proxyName})
	return filter{services: ours, slices: lacks(corev1.IsHeadlessService)}
}

func lacks(label string) labels.Selector {
	requirement, err := labels.NewRequirement(label, selection.DoesNotExist, nil)
	if err != nil {
		panic(err) // the label is a constant of ours
	}
	return labels.NewSelector().Add(*requirement)
}

// notHeadless has no effect on Services of type ExternalName: they have no
// clusterIP, which differs from "None".
func notHeadless() fields.Selector {
	return fields.OneTermNotEqualSelector("spec.clusterIP", corev1.ClusterIPNone)
}

func (f filter) wantsService(s *corev1.Service) bool {
	return s.Spec.ClusterIP != corev1.ClusterIPNone && f.services.Matches(labels.Set(s.Labels))
}

// wantsSlice looks at the slice's own labels: the label on its Service does
// nothing.
func (f filter) wantsSlice(s *discoveryv1.EndpointSlice) bool {
	return f.slices.Matches(labels.Set(s.Labels))
}
