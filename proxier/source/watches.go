package source

import (
	"path"
	"strings"
	"sync/atomic"
	"time"
)

// Watch is how current the objects of one kind are.
type Watch struct {
	Resource string // as in the API's paths: services
	// LastContact is when the API server last sent something of that kind, the zero time
	// if it never did. A watch is sent something about every minute.
	LastContact time.Time
	Synced      bool // all that there are have been listed
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
		{servicesResource, a.contact.services.time(), a.services.informer.HasSynced()},
		{slicesResource, a.contact.slices.time(), a.slices.informer.HasSynced()},
	}
	if a.node != nil {
		list = append(list, Watch{nodesResource, a.contact.nodes.time(), a.node.HasSynced()})
	}
	return list
}

// String says where objects come from.
func (a *API) String() string { return "the API server " + apiAddress(a.rest) }

// String says where objects come from.
func (m *Manifests) String() string { return "manifests in " + strings.Join(m.paths, ", ") }

// moment is a time that may be noted and read at once.
type moment struct{ nanos atomic.Int64 } // since 1970, 0 for never

func (s *moment) note() { s.nanos.Store(time.Now().UnixNano()) }

// time returns the zero time if there was none yet.
func (s *moment) time() time.Time {
	if nanos := s.nanos.Load(); nanos != 0 {
		return time.Unix(0, nanos)
	}
	return time.Time{}
}

// of is the contact by a request for one kind of objects, nil for any other request.
func (c *contact) of(urlPath string) *moment {
	return map[string]*moment{servicesResource: &c.services, slicesResource: &c.slices, nodesResource: &c.nodes}[path.Base(urlPath)]
}
