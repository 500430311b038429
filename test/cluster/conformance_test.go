package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/apiserver"
	"github.com/usher-proxy/usher/test/conformance"
	"github.com/usher-proxy/usher/test/netns"
)

func TestConformance(t *testing.T) {
	w := conformance.NewWorld(t)
	api := apiserver.Start(t, w.NS, netns.NodeIPv4)
	conformance.Run(t, w, "usher (API)", store{t, api}, conformance.Usher{Source: "--kubeconfig=" + api.Usher.Kubeconfig})
}

// store keeps the objects of the conformance cases in the API server.
type store struct {
	t   *testing.T
	api *apiserver.ControlPlane
}

func (s store) Apply(objects ...conformance.Object) {
	s.t.Helper()
	for _, o := range objects {
		if node, ok := o.(*corev1.Node); ok {
			s.applyNode(node)
		} else {
			s.api.Apply(o)
		}
	}
}

// holdNode keeps a Node from being deleted at once.
const holdNode = "usher.test/hold"

// applyNode applies a Node. If it has a deletion timestamp it is made one that
// waits for its deletion; one that waits is made anew.
func (s store) applyNode(node *corev1.Node) {
	s.t.Helper()
	deleting := node.DeletionTimestamp != nil
	node = node.DeepCopy()
	node.DeletionTimestamp = nil
	wanted := node.DeepCopy()
	if deleting {
		node.Finalizers = []string{holdNode}
	}
	waited := s.isDeleting(node)
	s.api.Apply(node) // which lets go of one that waited
	if waited && !deleting {
		s.api.Apply(wanted)
	}
	if !waited && deleting {
		s.api.Delete(node)
	}
}

func (s store) isDeleting(node *corev1.Node) bool {
	now := node.DeepCopy()
	return s.api.Admin.Get(s.t.Context(), now) == nil && now.DeletionTimestamp != nil
}

func (s store) Delete(objects ...conformance.Object) {
	s.t.Helper()
	for _, o := range objects {
		s.api.Delete(o)
	}
}

// Away stops the API server while f runs.
func (s store) Away(f func()) {
	s.t.Helper()
	s.api.StopServer()
	defer s.api.StartServer()
	f()
}
