package proxier

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
	"github.com/usher-proxy/usher/proxier/transparent"
)

// clientSource lets endpoints see the client's own address where Kubernetes
// promises it and the replies come back through this node. The decision is made
// before connecting, and never taken back when that fails: a NetworkPolicy that
// refuses the client would otherwise let it in as the node.
type clientSource struct {
	node  string        // the own node
	mark  iptables.Mark // of packets that return to us; zero: never
	paths *transparent.Paths
	works map[Family]*atomic.Bool // what it needs is in the kernel
	// Of the reconcile loop: why a family cannot.
	impossible map[Family]error
}

func newClientSource(node string, mark iptables.Mark) (*clientSource, error) {
	paths, err := transparent.NewPaths()
	return &clientSource{
		node: node, mark: mark, paths: paths,
		works:      map[Family]*atomic.Bool{IPv4: {}, IPv6: {}},
		impossible: map[Family]error{},
	}, err
}

// ensure puts the policy routes of a family in place and returns the mark that
// its rules have to set, the zero Mark if it is not to be or cannot be.
func (c *clientSource) ensure(ctx context.Context, family Family, table *iptables.Table) iptables.Mark {
	if c.mark == (iptables.Mark{}) {
		return c.mark
	}
	if err := table.CanReturn(ctx); err != nil {
		c.cannot(family, err)
		return iptables.Mark{}
	}
	// Where this fails, packets are marked all the same: connections that exist
	// may depend on it.
	c.cannot(family, transparent.Routes{Mark: c.mark}.Ensure(iptables.Family(family)))
	return c.mark
}

// cannot keeps why new connections of a family have to come from the node; nil:
// they need not.
func (c *clientSource) cannot(family Family, err error) {
	if c.impossible[family] = err; err != nil {
		c.works[family].Store(false)
	}
}

// written tells that the rules of a family set the mark that ensure returned.
func (c *clientSource) written(family Family, mark iptables.Mark) {
	c.works[family].Store(mark != iptables.Mark{} && c.impossible[family] == nil)
}

// problems are the families in which endpoints do not see clients, though they
// should.
func (c *clientSource) problems(node string) (list []Problem) {
	for family, err := range c.impossible {
		if err != nil {
			list = append(list, Problem{source.Ref{Kind: "Node", Name: node}, "CannotKeepSource",
				fmt.Sprintf("%s: endpoints see the node's address, not the client's: %v", family, err)})
		}
	}
	return list
}

// remove takes away what ensure has made, and what a former process has left.
func (c *clientSource) remove() error { return transparent.Remove() }

// from is the address from which a client's endpoint is connected to, or the zero
// Addr for the node's own, and why that is not the client's. promised says whether
// the endpoint is promised to see the client. It is safe for concurrent use.
func (c *clientSource) from(client netip.Addr, endpoint balancer.Endpoint, promised bool, where *clients) (from netip.Addr, why string) {
	switch {
	case !promised:
		return from, "not_promised"
	case !c.works[familyOf(client)].Load():
		return from, "off"
	}
	obstacle, _ := c.paths.Obstacle(transparent.Flow{
		Client: client, Endpoint: endpoint.Addr.Addr(),
		ClientHere:   where.isPodHere(client),
		EndpointHere: endpoint.Node == c.node || where.isPodHere(endpoint.Addr.Addr()),
	})
	if obstacle != transparent.None { // as when no route is known
		return from, string(obstacle)
	}
	return client, ""
}

// sourceOf is the address from which the connection's endpoint is connected to.
func (c *connection) sourceOf(endpoint balancer.Endpoint) (from netip.Addr) {
	from, why := c.source.from(c.record.Client.Addr(), endpoint, c.keepSource, c.clients.Load())
	c.record.SourceWhy = observe.WordOf(why)
	return from
}

// device names the network device behind which an address is, "" if that cannot
// be told.
func (c *clientSource) device(a netip.Addr) string {
	name, err := c.paths.Device(a)
	if err != nil {
		return ""
	}
	return name
}

// The ways in which an endpoint sees the client (Record.Source).
const (
	sourceClient = "client"
	sourceNode   = "node"
)

func noteSource(r *observe.Record, from netip.Addr) {
	r.Source = observe.WordOf(sourceNode)
	if from.IsValid() {
		r.Source = observe.WordOf(sourceClient)
	}
}
