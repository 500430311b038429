// Package transparent lets usher connect to an endpoint, by TCP or UDP, from the
// address of its client, as if usher were not there, and brings the replies back
// to usher.
//
//	paths, err := transparent.NewPaths()
//	routes := transparent.Routes{Mark: mark}  // of iptables.Rules.Returning
//	err = routes.Ensure(iptables.IPv4)        // at every pass that verifies
//	...
//	obstacle, err := paths.Obstacle(flow)     // before each dial
//	if obstacle == transparent.None {
//		dialer.Control = ...                  // calls Prepare
//		conn, err = dialer.DialTCP(ctx, "tcp", netip.AddrPortFrom(client, 0), endpoint)
//	}
//	...
//	err = transparent.Remove()                // at the end
//
// # How a packet travels out and back
//
// A pod at 10.244.1.2 behind the bridge cni0 has connected to a Service. Usher
// has accepted, and has chosen the endpoint 10.244.2.3:8080, a pod behind the
// link cali7 of the same node.
//
//  1. Usher makes a socket, allows it any address (Prepare), and binds it to
//     10.244.1.2. Then connect chooses a port, such as 40000.
//  2. The SYN, 10.244.1.2:40000 to 10.244.2.3:8080, passes OUTPUT, where usher's
//     mark (SO_MARK) keeps it from being redirected to usher again. Routing looks
//     at the destination only: it leaves by cali7.
//  3. The endpoint sees a connection from 10.244.1.2 and replies to that address.
//     Its default route leads to the node, so the SYN-ACK comes in by cali7.
//  4. Left alone, it would be forwarded to the pod by cni0, whose kernel knows of
//     no such connection and would reset it. But in mangle PREROUTING, which
//     comes before routing, the rule "-m socket --transparent" asks whether the
//     packet belongs to a transparent socket of this node. It does, and gets the
//     mark of returning packets.
//  5. Routing asks the policy rules in the order of their priority. Ours says that
//     packets with this mark use table 87437, and the only route there says that
//     every address is this node's own.
//  6. So the packet passes INPUT, and TCP finds usher's socket by its addresses
//     and ports.
//
// What is in the kernel then, for each family:
//
//	# ip rule
//	0:      from all lookup local
//	5:      from all fwmark 0x40/0x40 iif lo goto 7 proto 117
//	6:      from all fwmark 0x40/0x40 lookup 87437 proto 117
//	7:      from all nop proto 117
//	32766:  from all lookup main
//	# ip route show table 87437
//	local default dev lo proto 117 scope host
//
// Rules 5 and 7 are for reverse path filters. These ask by which device the
// sender of a packet would be reached, some of them (src_valid_mark, rpfilter
// --validmark, firewalld's IPv6_rpfilter) with the mark of the packet. Rule 6
// alone would answer "it is this node", and the filter drop the reply as forged.
// To the kernel such a question comes from lo, as all that the node sends.
//
// # Datagrams
//
// The same holds for a UDP socket that is bound to the client's address and
// connected to the endpoint. Its rule in mangle PREROUTING asks conntrack first
// whether the datagram is a reply (see iptables.Rules.Returning). Fragments are
// put together before. An endpoint where nobody listens says so by ICMP, which is
// marked too: the socket's next call fails with ECONNREFUSED. In the same way a
// router tells that a datagram was too large for a link behind it (EMSGSIZE): it
// is lost, and those after it are sent in fragments.
//
// # When it works
//
// Only if the reply passes step 3, that is, if this node routes it. It does when
// the client is a pod of this node, or the endpoint is. It does not when both are
// behind one device: two pods on one bridge exchange packets through the bridge,
// two hosts on eth0 through the switch. Nor can it when an end is this node
// itself. [Obstacle] has all cases. Elsewhere a dial only times out, and of UDP
// nothing is ever answered, so the decision comes first ([Paths.Obstacle]).
//
// Whoever says that a client is a pod of this node (Flow.ClientHere) has to be
// sure: a prefix of the whole cluster's pods does not say so.
//
// # Limits
//
// Ports: the kernel takes one that is free among the sockets of this node. It
// does not know the connections that the client itself has to the same endpoint,
// past usher. If it takes one of their ports, the client's own connection is
// lost: endpoint and node cannot tell the two apart. For each connection that
// the client has of its own to that endpoint, this happens once in about 28000
// dials (the size of ip_local_port_range). The other way round, a client that takes
// a port of usher's gets no answer until usher's connection ends. The same goes
// for UDP, but there the client's flow is itself again when usher's has ended. A
// port of UDP serves one endpoint at a time (see [Prepare]).
//
// ICMP: a router's message about a connection, such as that a packet was too
// large, goes to the client's address. It reaches usher's socket only if ICMP is
// marked as TCP is; otherwise a path with a small MTU swallows large packets.
// What this node itself finds out, such as that an endpoint on its own link is
// gone, it tells the client and not the socket: the dial times out, and datagrams
// are lost.
//
// Firewalls: for a rule in FORWARD the connection does not exist: packets go
// out by OUTPUT and come in by INPUT, as those of the node's other processes.
//
// NAT: where a network plugin masquerades the client's packets, it masquerades
// these as well, and the endpoint sees what it would without usher. Step 4 then
// needs a match socket that looks through NAT. For IPv6 older kernels may lack
// that (tried with Linux 6.18).
//
// Network plugins that hand packets from one device to another past the IP stack
// (eBPF redirection) leave out step 4.
//
// # Sources
//
// Linux: Documentation/networking/tproxy.rst; net/netfilter/xt_socket.c;
// fib_validate_source in net/ipv4/fib_frontend.c. ip(7) for the socket options,
// ip-rule(8) for the rules.
package transparent
