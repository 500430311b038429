package cluster

import (
	"testing"

	"github.com/usher-proxy/usher/test/apiserver"
	"github.com/usher-proxy/usher/test/conformance"
)

func TestConformance(t *testing.T) {
	c := newCluster(t)
	c.Store = store{c.api}
	c.Usher = c.start()
	conformance.Run(t, c.World)
}

// store keeps the objects of the conformance cases in the API server.
type store struct{ api *apiserver.ControlPlane }

func (s store) Apply(objects ...conformance.Object) {
	for _, o := range objects {
		s.api.Apply(o)
	}
}

func (s store) Delete(objects ...conformance.Object) {
	for _, o := range objects {
		s.api.Delete(o)
	}
}
