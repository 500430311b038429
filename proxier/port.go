package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/usher-proxy/usher/balancer"
)

// ServicePort names one port of one Service. Kubernetes identifies a port by
// its name and protocol, not by its number (Service.spec.ports).
type ServicePort struct {
	Namespace, Name string // of the Service
	Port            string // name of the port, may be empty
	Protocol        string // tcp
}

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
	ClusterIP Kind = "cluster"
	NodePort  Kind = "node_port"
)

// Frontend is one address that clients dial. Addr is the zero Addr for a
// NodePort: every address of the node.
type Frontend struct {
	Kind Kind
	Addr netip.Addr
	Port uint16
}

func (f Frontend) String() string {
	if f.Kind == NodePort {
		return fmt.Sprintf("node port %d", f.Port)
	}
	return netip.AddrPortFrom(f.Addr, f.Port).String()
}

// Exclusion is an endpoint that is not used, and why.
type Exclusion struct {
	Addr   string
	Reason string
}

// Port is what one Service port should look like right now. It is a plain
// value, computed from the objects and never changed.
type Port struct {
	Key
	Frontends []Frontend
	Endpoints []balancer.Endpoint // usable ones, sorted by address
	Excluded  []Exclusion
}

// find returns the frontend that a client reaches by dialling dst. A NodePort is
// reached by any address, as only the node's own get here.
func find(frontends []Frontend, dst netip.AddrPort) (Frontend, bool) {
	for _, f := range frontends {
		if f.Port == dst.Port() && (f.Kind == NodePort || f.Addr == dst.Addr()) {
			return f, true
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
