package iptables

import "net/netip"

// Protocol is a transport protocol as iptables spells it.
type Protocol string

// The protocols that can be redirected.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Redirect says that traffic to one frontend belongs to one local port.
type Redirect struct {
	// Name tells whose frontend it is: namespace/name:port. It is written as
	// the rule's comment, so that iptables-save can be read by people and the
	// listener port be found again after a restart (see Table.Assigned). Names
	// of letters, digits and ._:/- up to 255 bytes are read back unchanged.
	Name     string
	Protocol Protocol
	// Addr and Port are what the client dials. The zero Addr means every
	// local address of the node: a NodePort.
	Addr netip.Addr
	Port uint16
	// To is the listener port.
	To uint16
	// Here restricts the redirect to clients on this node: its own processes,
	// and its pods as far as Rules.Pods tells them. It comes before redirects of
	// the same frontend that are for clients anywhere.
	Here bool
	// Sources restricts the redirect to clients with an address in one of these
	// prefixes. It comes before redirects of the same frontend and the same Here
	// without Sources. Empty: every address.
	Sources []netip.Prefix
}

// Pods tells packets that come from pods of this node from all others: by their
// source address or by the interface that they come in by. Both empty: pods are
// not told.
type Pods struct {
	// Prefixes hold the addresses of the pods.
	Prefixes []netip.Prefix
	// Interfaces are names of letters, digits and ._:@-, at most 15 of them; a +
	// at the end stands for every interface whose name begins so, as in
	// iptables.
	Interfaces []string
}

// Mark is a packet mark of one or more bits (SO_MARK, -m mark).
type Mark struct {
	Value, Mask uint32
}

// used says whether the mark is not the zero Mark.
func (m Mark) used() bool { return m.Mask != 0 }

// Rules is everything that the kernel should do for one address family. All
// prefixes are of that family, and have no bits set beyond their length. The
// order and repetitions in a list mean nothing.
type Rules struct {
	// Redirects are the frontends. Several for the same frontend are asked in
	// this order: those with Here before those without; of these, those with
	// Sources before those without; of these, as their Names sort.
	Redirects []Redirect
	// Ending says that nothing new is to be redirected. What was redirected before
	// is still accepted, and tracked: where no other rule needs conntrack, the
	// kernel stops it for the whole network namespace with the last one that does,
	// and redirected connections die.
	Ending bool
	// Mark exempts our own outgoing connections, so that dialling an address
	// that is also a frontend cannot come back to us. The zero Mark exempts
	// nothing.
	Mark Mark
	// Numbered are the interfaces that have an address of this family. REDIRECT
	// rewrites the destination to an address of the interface that a packet
	// came in by, and silently drops what came in by an interface without one.
	// For IPv6 only interfaces with a global (not link-local) address belong
	// here: a link-local one does serve REDIRECT, but only once duplicate
	// address detection has ended.
	Numbered []string
	// NodeAddr is where packets from all other interfaces are sent by DNAT
	// instead, so that the interface of a new pod need not be told first.
	// Invalid: everything is sent to REDIRECT, and Numbered is not looked at.
	NodeAddr netip.Addr
	// Pods tells which clients are pods of this node, for Redirect.Here.
	Pods Pods
	// NodePortsOn restricts NodePorts to local addresses inside these prefixes.
	// Empty: every local address.
	NodePortsOn []netip.Prefix
	// NotOnLoopback takes the loopback addresses (127.0.0.0/8, ::1) out of those
	// of NodePorts.
	NotOnLoopback bool
	// Open are TCP ports that INPUT lets in, for servers of our own that the
	// outside must reach (healthCheckNodePort). One that is also a listener port
	// stays closed to what was not redirected.
	Open []uint16
	// Returning marks the packets that reply to a TCP or connected UDP socket of
	// ours with an address that is not this node's (IP_TRANSPARENT), and the ICMP
	// errors about it, so that a policy route can bring them to us. The zero Mark
	// marks nothing. See Table.CanReturn.
	Returning Mark
}
