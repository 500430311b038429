package transparent

import "net/netip"

// Flow is a connection, TCP or UDP, that is about to be made on behalf of a
// client.
type Flow struct {
	Client, Endpoint netip.Addr
	// ClientHere: the client is a pod of this node, not just of the cluster.
	ClientHere bool
	// EndpointHere: the endpoint is on this node.
	EndpointHere bool
}

// An Obstacle is why a connection cannot come from the client's address.
type Obstacle string

const (
	// None: it can.
	None Obstacle = ""
	// Hairpin: the client is the endpoint. It would take the packets, which come
	// from itself, for forged ones.
	Hairpin Obstacle = "hairpin"
	// HostClient: the client is a process of the node. Its address needs no
	// preserving, and the connection has it anyway where routing chooses it.
	HostClient Obstacle = "host_client"
	// HostEndpoint: the endpoint is a process of the node. It sends its replies
	// by OUTPUT, where no socket can be asked for.
	HostEndpoint Obstacle = "host_endpoint"
	// SameDevice: both are behind one network device, such as two pods behind
	// one bridge, which exchange packets past the node's IP stack.
	SameDevice Obstacle = "same_device"
	// Elsewhere: neither is on this node, so that the endpoint's node sends the
	// reply directly to the client.
	Elsewhere Obstacle = "elsewhere"
	// LinkLocal: such an address means nothing on another link.
	LinkLocal Obstacle = "link_local"
	// OtherFamily: one has an IPv4 address and the other one an IPv6 address.
	OtherFamily Obstacle = "other_family"
	// Unknown: the node does not know how to reach one of them.
	Unknown Obstacle = "unknown"
)

// Obstacle decides whether the endpoint's replies to the client's address would
// be routed by this node. It is None only if they surely are: a connection from
// an address whose replies go elsewhere only times out, and of UDP nothing is
// ever answered. An error, with Unknown, says which route cannot be looked up.
func (p *Paths) Obstacle(f Flow) (Obstacle, error) {
	f.Client, f.Endpoint = f.Client.Unmap(), f.Endpoint.Unmap()
	if o := f.ofAddresses(); o != None {
		return o, nil
	}
	client, err := p.hops.get(f.Client)
	if err != nil {
		return Unknown, err
	}
	endpoint, err := p.hops.get(f.Endpoint)
	if err != nil {
		return Unknown, err
	}
	return f.ofHops(client, endpoint), nil
}

// ofAddresses finds the obstacles for which no route need be known.
func (f Flow) ofAddresses() Obstacle {
	switch {
	case f.Client == f.Endpoint:
		return Hairpin
	case f.Client.Is4() != f.Endpoint.Is4():
		return OtherFamily
	case f.Client.IsLinkLocalUnicast() || f.Endpoint.IsLinkLocalUnicast():
		return LinkLocal
	}
	return None
}

func (f Flow) ofHops(client, endpoint hop) Obstacle {
	switch {
	case client.local:
		return HostClient
	case endpoint.local:
		return HostEndpoint
	case client.device == endpoint.device:
		return SameDevice
	case !f.ClientHere && !f.EndpointHere:
		return Elsewhere
	}
	return None
}
