package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/observe"
)

// ServicePort names one port of one Service. Kubernetes identifies a port by
// its name and protocol, not by its number (Service.spec.ports).
type ServicePort struct {
	Namespace, Name string // of the Service
	Port            string // name of the port, may be empty
	Protocol        string // tcp or udp
}

// The protocols, as netfilter spells them.
const (
	tcpProtocol = "tcp"
	udpProtocol = "udp"
)

// String is namespace/name:port, as Kubernetes' own proxy prints it.
func (s ServicePort) String() string {
	if s.Port == "" {
		return s.Namespace + "/" + s.Name
	}
	return s.Namespace + "/" + s.Name + ":" + s.Port
}

// Family is an IP address family.
type Family int

// The address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

func (f Family) String() string { return fmt.Sprintf("IPv%d", int(f)) }

// wildcard is the address on which a socket of this family hears everything.
func (f Family) wildcard() netip.Addr {
	if f == IPv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// ipFamily is what Kubernetes calls it.
func (f Family) ipFamily() corev1.IPFamily { return corev1.IPFamily(f.String()) }

func ipFamilies(families []Family) (list []corev1.IPFamily) {
	for _, f := range families {
		list = append(list, f.ipFamily())
	}
	return list
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Key names what is listened for: one Service port in one address family.
type Key struct {
	ServicePort
	Family Family
}

func (k Key) String() string { return fmt.Sprintf("%s/%s (%s)", k.ServicePort, k.Protocol, k.Family) }

// Kind is where a frontend comes from.
type Kind string

// The kinds of frontends.
const (
	ClusterIP    Kind = "cluster"
	NodePort     Kind = "node_port"
	ExternalIP   Kind = "external"
	LoadBalancer Kind = "load_balancer"
)

// Set names the endpoints that are eligible for a client.
type Set string

// The sets of eligible endpoints.
const (
	ClusterSet Set = "cluster" // endpoints of all nodes, narrowed by topology hints
	LocalSet   Set = "local"   // endpoints on this node
)

// Policy is how a frontend's clients get their Set. It follows the address that
// they dial (Service.spec.internalTrafficPolicy and externalTrafficPolicy).
type Policy string

// The policies.
const (
	// Cluster gives everybody the ClusterSet.
	Cluster Policy = "Cluster"
	// InternalLocal gives everybody the LocalSet.
	InternalLocal Policy = "InternalLocal"
	// ExternalLocal gives the LocalSet to clients outside of this node. Clients
	// on it get the ClusterSet: nobody needs a load balancer to find them a
	// better node, and no hop is saved.
	ExternalLocal Policy = "ExternalLocal"
)

// set is the Set for a client that is, or is not, on this node.
func (p Policy) set(here bool) Set {
	if p == InternalLocal || p == ExternalLocal && !here {
		return LocalSet
	}
	return ClusterSet
}

// Frontend is one address that clients dial. Addr is the zero Addr for a
// NodePort: every address of the node that --nodeport-addresses chooses.
type Frontend struct {
	Kind   Kind
	Addr   netip.Addr
	Port   uint16
	Policy Policy
}

func (f Frontend) String() string {
	if f.Kind == NodePort {
		return fmt.Sprintf("node port %d", f.Port)
	}
	return netip.AddrPortFrom(f.Addr, f.Port).String()
}

// promisesSource says whether the endpoint is to see the client's own address,
// as the documentation of Kubernetes promises in two cases.
func (f Frontend) promisesSource() bool { return f.Kind == ClusterIP || f.Policy == ExternalLocal }

// Exclusion is an endpoint that is not used, and why.
type Exclusion struct {
	Addr   string
	Reason string
}

// Eligible are the endpoints of a Set.
type Eligible struct {
	Endpoints []balancer.Endpoint // sorted by address
	// Terminating says that they are on their way out: no ready one is left.
	Terminating bool
	// Topology is the hint by which they were chosen, node or zone; empty: none.
	Topology string
	// Silent says what a client gets while there are none: silence, because
	// another node has some and a load balancer will find it, or a refusal.
	Silent bool
}

// Port is what one Service port should look like right now. It is a plain
// value, computed from the objects and never changed.
type Port struct {
	Key
	Frontends []Frontend
	// SourceRanges are the clients that may use the LoadBalancer frontends; nil:
	// all (Service.spec.loadBalancerSourceRanges).
	SourceRanges   []netip.Prefix
	Cluster, Local Eligible
	// Known is how many endpoints there are, whatever their state.
	Known    int
	Excluded []Exclusion
	// Affinity is for how long after its last connection a client stays with its
	// endpoint; zero: it does not (Service.spec.sessionAffinity).
	Affinity time.Duration
	// Settings are what the Service asks for by annotations, or the flags say. They are
	// never changed.
	Settings *annotation.Settings
	// Staying are the endpoints that are there to stay, whether or not they are
	// eligible, and Unready those of the others that are there but not ready; both
	// sorted. They are known only if connections are to end because of it.
	Staying, Unready []netip.AddrPort
}

// eligible are the endpoints of a Set.
func (p *Port) eligible(s Set) *Eligible {
	if s == LocalSet {
		return &p.Local
	}
	return &p.Cluster
}

// lacks is why there is no endpoint for clients of a Set.
func (p *Port) lacks(s Set) observe.Reason {
	switch e := p.eligible(s); {
	case len(e.Endpoints) > 0: // a policy takes none
	case e.Silent:
		return observe.NoLocalEndpoints
	case p.Known > 0:
		return observe.NoReadyEndpoints
	}
	return observe.NoEndpoints
}

// admits says whether a client may use a frontend.
func (p *Port) admits(client netip.Addr, f Frontend) bool {
	return f.Kind != LoadBalancer || p.SourceRanges == nil || contains(p.SourceRanges, client)
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// find returns the frontend that a client reaches by dialling dst. A NodePort is
// reached by any address, as only the node's own get here; an address of a load
// balancer may be one of them, and comes first.
func find(frontends []Frontend, dst netip.AddrPort) (Frontend, bool) {
	for _, addr := range []netip.Addr{dst.Addr(), {}} {
		for _, f := range frontends {
			if f.Addr == addr && f.Port == dst.Port() {
				return f, true
			}
		}
	}
	return Frontend{}, false
}

func compareKeys(a, b Key) int {
	return cmp.Or(
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name),
		strings.Compare(a.Port, b.Port),
		strings.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Family, b.Family))
}
