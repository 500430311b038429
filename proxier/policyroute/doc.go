// Package policyroute leads packets for Service addresses that no interface has to the
// sockets of this node, by policy routing and without netfilter. [Bind] binds those
// sockets; a [Router] makes and owns the rules and routes:
//
//	router, err := policyroute.New(policyroute.Options{})
//	err = router.Sync(policyroute.IPv4, destinations, nodeAddr, verify) // at every pass
//	...
//	err = router.Close()         // leaves no rule and no route
//	err = policyroute.Remove()   // the same for what a killed process has left
//
// # What is in the kernel
//
// For 10.96.0.10:80/tcp, which is served, and 10.96.0.11:80/tcp, which is not, on a node
// with the address 192.0.2.1:
//
//	# ip rule
//	0:   from all lookup local
//	20:  from all to 10.96.0.10/31 goto 22 proto 118
//	21:  from all goto 26 proto 118
//	22:  from all ipproto tcp dport 80 lookup 1970470992 proto 118
//	22:  from all ipproto icmp lookup 1970601984 proto 118
//	23:  from all ipproto tcp dport 1-65534 goto 25 proto 118
//	23:  from all ipproto udp dport 1-65534 goto 25 proto 118
//	24:  from all ipproto tcp lookup 1970601984 proto 118
//	24:  from all ipproto udp lookup 1970601984 proto 118
//	25:  from all lookup 1970601985 proto 118
//	26:  from all nop proto 118
//	32766: from all lookup main
//	# ip route show table 1970470992                # tcp, port 80
//	local 10.96.0.10 dev lo proto 118 src 192.0.2.1
//	# ip route show table 1970601984                # packets without a port
//	local 10.96.0.10 dev lo proto 118 src 192.0.2.1
//	local 10.96.0.11 dev lo proto 118 src 192.0.2.1
//	# ip route show table 1970601985                # all else is refused
//	10.96.0.10 dev usher0 proto 118 src 192.0.2.1
//	10.96.0.11 dev usher0 proto 118 src 192.0.2.1
//
// Rules 20 and 21 keep other traffic cheap: no rule can ask whether a table has an address,
// so a few prefixes (at most 8) tell where Service addresses are, and everything else jumps
// over the band. A packet in one of them that is to no Service falls through all tables, and
// goes on to the rules of others, as one does to the priorities after 26.
//
// Rule 22 is there once for each protocol and port, however many addresses have it. So a
// server on 0.0.0.0:22 is not reached at an address that has port 80 only. A rule costs
// about 11 ns for each route that is looked up for a packet to a Service, so 1000 of them
// cost 11 us; a connection takes two or three look-ups, and once it is established none. That
// is the bound ([MaxPorts]): of further ports, the highest, the addresses become local for
// all ports of the protocol.
//
// Rules 22 (ICMP) and 24 are for packets that do not tell a port: all fragments of a
// datagram, and the ICMP errors by which routers tell what is too large for them. Service
// addresses therefore answer pings. Port 65535 is such a one, too: no rule can name it.
//
// With src the node's own connections to a Service come from its own address; else they
// would come from the Service's.
//
// # Who is refused
//
// A socket that is bound and does not listen, which refuses at an address of the node's own,
// does not do here. IPv4 sends no reset and no ICMP error from an address that is not in
// table local (tried: a connect times out), and the kernel would give the connection to a
// server that listens on the wildcard address. A route of type unreachable is
// answered at once, but with EHOSTUNREACH (tried). So a refused destination is in no table of
// a port, and rule 25 leads to a TUN interface on which this process itself answers with a
// reset, or with ICMP port unreachable from 192.0.0.8 (RFC 7600; a route in table main lets
// that pass reverse path filters). It also refuses ports that no Service has. Interface and
// routes vanish with the process. This takes /dev/net/tun, and forwarding for clients
// elsewhere; without it the routes are of type unreachable, and [Router.NoRefuser] tells why.
//
// # ARP and neighbour discovery
//
// The kernel answers ARP for what is local by a look-up without protocol and port. Rule 25
// alone takes it, and leads to another interface: no answer, unless the interface has a proxy
// entry for the address. Announced destinations get one on the interfaces in whose subnet
// they are (arp(7), ip-neighbour(8)); IPv6 also needs proxy_ndp. That is for addresses that
// neighbours reach directly, as a load balancer's; a ClusterIP is routed to. Only one node of
// a subnet may announce an address.
//
// # Reverse paths
//
// The sender of a packet to a Service is looked up like any address, so filters (rp_filter)
// see nothing new; a sender with a Service's address is none. Our connections to endpoints
// leave by the rules of others.
//
// # Without policy rules
//
// On a kernel without them (or with Options.AnyIP) all addresses are local routes in table
// local: every server on the wildcard address is reached by them, and ARP is answered.
//
// # Limits
//
// A socket cannot be bound to a port on which somebody listens at the wildcard address, and
// while it is bound nobody else can do that: such a Service cannot be served, and is refused.
package policyroute
