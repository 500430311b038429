package source

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Source is where objects come from.
type Source interface {
	// Run keeps the objects up to date until ctx is done, and returns when
	// everything it started has ended. It is called once.
	Run(ctx context.Context) error
	// Changed receives a value after something has changed. It has room for
	// one: several changes may be told as one.
	Changed() <-chan struct{}
	// Objects returns the current state, and false as long as it is not
	// complete: nothing may be programmed from a part of the lists. Once
	// complete it stays so; while the origin is away the last state is kept.
	Objects() (Objects, bool)
	// Event tells whoever looks after an object that something is wrong with
	// it: as a Kubernetes Event of type Warning where there is an API server.
	// It never blocks; repeated events are folded. It is no substitute for a
	// line in usher's own log.
	Event(about Ref, reason, message string)
}

// Objects is everything that the desired state is computed from, in no
// particular order. The objects are shared with the caches: nobody may change
// them, nor the lists. An object that is changed is replaced by another one, with
// another resourceVersion, and its list by another list: who has seen a pointer
// knows what it leads to, and who has seen a list what is in it.
type Objects struct {
	Services []*corev1.Service
	Slices   []*discoveryv1.EndpointSlice
	Node     *corev1.Node // the own node, nil if unknown
	// ExpectsNode says that there should be a Node, as in every cluster.
	ExpectsNode bool
}

// Ref names the object that an event is about.
type Ref struct {
	Kind      string // Service, EndpointSlice or Node
	Namespace string // empty for a Node
	Name      string
}

// apiVersion is that of the object's kind.
func (r Ref) apiVersion() string {
	if r.Kind == "EndpointSlice" {
		return discoveryv1.SchemeGroupVersion.String()
	}
	return corev1.SchemeGroupVersion.String()
}

// String returns the form that people read: "Service default/web".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// signal is the channel behind Changed.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

// send never blocks: a value that still waits tells this change too.
func (s signal) send() {
	select {
	case s <- struct{}{}:
	default:
	}
}
