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
}

// Mark is a packet mark of one or more bits (SO_MARK, -m mark).
type Mark struct {
	Value, Mask uint32
}

// Rules is everything that the kernel should do for one address family.
type Rules struct {
	// Redirects are the frontends, in any order. Of two for the same frontend
	// the one whose Name sorts first counts.
	Redirects []Redirect
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
}
