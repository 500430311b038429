package source

import (
	"strings"
	"time"

	"k8s.io/client-go/tools/cache"
)

// Watch is how current the objects of one kind are.
type Watch struct {
	Resource string // as in the API's paths: services
	// LastContact is when the API server last sent something of that kind, the zero time
	// if it never did. A watch is sent something about every minute.
	LastContact time.Time
	Synced      bool   // all that there are have been listed
	Lists       uint64 // how often all were listed; after the first time: as the watch could not go on
}

// The resources that are watched.
const (
	servicesResource = "services"
	slicesResource   = "endpointslices"
	nodesResource    = "nodes"
)

// Watches are those of the API server.
func (a *API) Watches() []Watch {
	list := []Watch{
		a.contact.services.watch(servicesResource, a.services.informer),
		a.contact.slices.watch(slicesResource, a.slices.informer),
	}
	if a.node != nil {
		list = append(list, a.contact.nodes.watch(nodesResource, a.node))
	}
	return list
}

func (h *heard) watch(resource string, informer cache.SharedIndexInformer) Watch {
	return Watch{Resource: resource, LastContact: h.last.time(), Synced: informer.HasSynced(), Lists: h.lists.Load()}
}

// String says where objects come from.
func (a *API) String() string { return "the API server " + apiAddress(a.rest) }

// String says where objects come from.
func (m *Manifests) String() string { return "manifests in " + strings.Join(m.paths, ", ") }
