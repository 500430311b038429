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
//	22:  from all ipproto icmp lookup 1970601985 proto 118
//	23:  from all ipproto tcp dport 1-65534 goto 25 proto 118
//	23:  from all ipproto udp dport 1-65534 goto 25 proto 118
//	24:  from all ipproto tcp lookup 1970601984 proto 118
//	24:  from all ipproto udp lookup 1970601985 proto 118
//	25:  from all lookup 1970601986 proto 118
//	26:  from all nop proto 118
//	32766: from all lookup main
//	# ip route show table 1970470992                # tcp, port 80
//	local 10.96.0.10 dev lo proto 118 src 192.0.2.1
//	# ip route show table 1970601984                # tcp, packets without a port
//	local 10.96.0.10 dev lo proto 118 src 192.0.2.1
//	# ip route show table 1970601986                # all else is refused
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
// addresses with endpoints therefore answer pings. Port 65535 is such a one, too: no rule can
// name it.
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
// they are (arp(7), ip-neighbour(8)), with our protocol number by which what a killed process
// has left is known (Linux 5.2); IPv6 also needs proxy_ndp. That is for addresses that
// neighbours reach directly, as a load balancer's; a ClusterIP is routed to. Only one node of
// a subnet may announce an address.
//
// # Reverse paths
//
// The sender of a packet to a Service is looked up like any address, so filters (rp_filter)
// see nothing new; a sender with a Service's address is none. Our connections to endpoints
// leave by the rules of others.
//
// # What others change
//
// Rules and routes that somebody else removes or replaces are noticed ([Router.Changed]) by
// the messages that the kernel sends of each change (rtnetlink(7)), but for our own. Of
// neighbour entries it sends none, so they are listed, if there are any of ours. Nothing more
// is done at 10,000 Services: to look takes 45 us, where to list all rules and routes takes
// 27 ms.
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
//
// Fragments do not tell their port, and are put together only after they were routed. At
// an address with a UDP port that is served, a datagram in fragments therefore reaches a
// server on the wildcard address whatever its port; so do segments of TCP at one with a TCP
// port, though nobody sends these in fragments but on purpose. Only netfilter puts them together
// before (nf_defrag_ipv4).
package policyroute
