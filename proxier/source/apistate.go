package source

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// Objects implements Source. As long as not all lists are there it is the last state
// that is served, as a whole: never a part of the lists, nor of both.
func (a *API) Objects() (Objects, bool) {
	objects, known := a.keeper.objects()
	if a.isComplete() {
		objects, known = Objects{Services: a.services.objects(), Slices: a.slices.objects(), Node: a.ownNode()}, true
		if objects.Node == nil && a.node != nil && !a.node.HasSynced() {
			objects.Node = a.keeper.node()
		}
	}
	objects.ExpectsNode = known && a.node != nil
	return objects, known
}

func (a *API) isComplete() bool {
	select {
	case <-a.complete:
		return true
	default:
		return false
	}
}

// listed says whether the lists are there without which nothing is complete.
func (a *API) listed() bool { return a.services.informer.HasSynced() && a.slices.informer.HasSynced() }

// ownNode is the one that the API server has told, nil if it has not.
func (a *API) ownNode() *corev1.Node {
	if a.node == nil {
		return nil
	}
	if nodes := list[*corev1.Node](a.node); len(nodes) > 0 {
		return nodes[0]
	}
	return nil
}

func (a *API) address() string { return apiAddress(a.rest) }

// list returns what an informer's cache holds.
func list[T any](informer cache.SharedIndexInformer) []T {
	all := informer.GetStore().List()
	typed := make([]T, len(all))
	for i, object := range all {
		typed[i] = object.(T)
	}
	return typed
}
