package source

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// strip drops what nobody here reads before an object enters a cache: in a
// large cluster that is most of its size. It may change the object, which was
// just decoded and is not shared yet.
func strip(decoded any) (any, error) {
	switch o := decoded.(type) {
	case *corev1.Service:
		stripService(o)
	case *discoveryv1.EndpointSlice:
		stripSlice(o)
	case *corev1.Node:
		stripMeta(&o.ObjectMeta, func(string) bool { return false })
		o.Status = corev1.NodeStatus{Addresses: o.Status.Addresses}
	}
	return decoded, nil
}

// matters reports whether an update needs a new look at the state. A relist
// repeats every object, and a Node is written every few minutes only to say
// that it is alive.
func matters(before, after any) bool {
	if b, ok := before.(*corev1.Node); ok {
		a, ok := after.(*corev1.Node)
		return !ok || !sameNode(b, a)
	}
	b, okBefore := before.(metav1.Object)
	a, okAfter := after.(metav1.Object)
	return !okBefore || !okAfter || a.GetResourceVersion() != b.GetResourceVersion()
}

func sameNode(before, after *corev1.Node) bool {
	b, a := *before, *after
	b.ResourceVersion, a.ResourceVersion = "", ""
	return equality.Semantic.DeepEqual(b, a)
}
