// Package iptables sends the traffic of Services to local ports.
//
// A [Table] owns chains in the nat, filter and mangle tables of one address
// family, all of them called USHER-something, and writes to them what has changed
// by one run of iptables-restore:
//
//	table, err := iptables.New(iptables.IPv4)   // proves that iptables works here
//	ports, err := table.Assigned(ctx)           // what an earlier process left
//	err = table.Sync(ctx, rules)                // at every change
//	differences, err := table.Verify(ctx, rules) // now and then: others write, too
//	err = table.Cleanup(ctx)                    // at the end
//
// A table is written as a whole or not at all, so a crash leaves in each either
// the old rules or the new ones. The listeners must exist before the rules that
// lead to them, and the rules be gone before the listeners. Rules of others are
// neither changed nor moved, except that our jumps come before them.
//
// # What it looks like
//
// The output of iptables-save for a Service with a NodePort, on a node whose
// address is 192.0.2.1 (lines shortened). Its externalTrafficPolicy is Local:
// port 11000 leads to all endpoints, 11001 to those of this node only.
//
//	*mangle
//	-A PREROUTING -j USHER-RETURN
//	-A USHER-RETURN -p tcp -m socket --transparent -j MARK --set-xmark 0x40/0x40
//	-A USHER-RETURN -p udp -m conntrack --ctdir REPLY -m socket --transparent -j MARK --set-xmark 0x40/0x40
//	-A USHER-RETURN -p icmp -m socket --transparent -j MARK --set-xmark 0x40/0x40
//	COMMIT
//	*filter
//	-A INPUT -j USHER-INPUT
//	-A USHER-INPUT -p tcp --dport 11000:11001 -m conntrack --ctstate DNAT -j ACCEPT
//	-A USHER-INPUT -p tcp --dport 11000:11001 -j REJECT --reject-with tcp-reset
//	-A USHER-INPUT -p tcp --dport 32000 -j ACCEPT
//	COMMIT
//	*nat
//	-A PREROUTING -j USHER-PREROUTING
//	-A OUTPUT -j USHER-OUTPUT
//	-A USHER-PREROUTING -i cni0 -g USHER-REDIRECT
//	-A USHER-PREROUTING -i eth0 -g USHER-REDIRECT
//	-A USHER-PREROUTING -g USHER-DNAT
//	-A USHER-OUTPUT -m mark --mark 0x20/0x20 -j RETURN
//	-A USHER-OUTPUT -g USHER-REDIRECT
//	-A USHER-REDIRECT -j USHER-SERVICES
//	-A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS
//	-A USHER-SERVICES -d 10.96.0.20/32 -p tcp --dport 80 --comment "shop/web:http" -j REDIRECT --to-ports 11000
//	-A USHER-NODEPORTS -p tcp --dport 30080 --src-type LOCAL --comment "shop/web:http" -j REDIRECT --to-ports 11000
//	-A USHER-NODEPORTS -s 10.244.1.0/24 -p tcp --dport 30080 --comment "shop/web:http" -j REDIRECT --to-ports 11000
//	-A USHER-NODEPORTS -p tcp --dport 30080 --comment "shop/web:http/local" -j REDIRECT --to-ports 11001
//	-A USHER-DNAT -j USHER-SERVICES-DNAT
//	-A USHER-DNAT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS-DNAT
//	-A USHER-SERVICES-DNAT -d 10.96.0.20/32 -p tcp --dport 80 --comment "shop/web:http" -j DNAT --to-destination 192.0.2.1:11000
//	-A USHER-NODEPORTS-DNAT -p tcp --dport 30080 --src-type LOCAL --comment "shop/web:http" -j DNAT --to-destination 192.0.2.1:11000
//	-A USHER-NODEPORTS-DNAT -s 10.244.1.0/24 -p tcp --dport 30080 --comment "shop/web:http" -j DNAT --to-destination 192.0.2.1:11000
//	-A USHER-NODEPORTS-DNAT -p tcp --dport 30080 --comment "shop/web:http/local" -j DNAT --to-destination 192.0.2.1:11001
//	COMMIT
//
// # Why each chain exists
//
// USHER-PREROUTING, for what comes from pods and other machines, chooses how a
// packet gets to the listener. REDIRECT keeps it on an address of the interface
// that it came in by, but silently drops what came in by an interface without
// one, which is how some network plugins connect pods. DNAT to the node's
// address works from everywhere. The interfaces that have an address are few
// and known (Rules.Numbered), so they are the ones listed: a pod that was
// started a moment ago is served by the last rule.
//
// USHER-OUTPUT, for what the node itself sends, first exempts our own
// connections to endpoints by their mark.
//
// USHER-REDIRECT and USHER-DNAT ask for the frontends with an address of their
// own first, then for NodePorts on local addresses: the address of a load
// balancer may be local, and its port a NodePort of somebody else. Which local
// addresses have NodePorts is said here (Rules.NodePortsOn, NotOnLoopback), and
// not once more for each of them.
//
// USHER-SERVICES, USHER-NODEPORTS and their -DNAT twins have the frontends: one
// rule for each that everybody may use, and before it those for some clients.
// The listener cannot tell these clients, for it sees no interfaces, and must be
// silent to some before it answers their first packet. Clients on this node are
// its processes, which have an address of it (Redirect.Here; --src-type LOCAL
// also in PREROUTING, where only what the node sends to itself has one), and its
// pods, told by address or interface. The latter never matches in OUTPUT. A rule
// has room for one -s, so Sources and the addresses of pods are intersected.
// Endpoints appear nowhere, so their changes need no write.
//
// USHER-SERVICES and USHER-NODEPORTS become trees where they have more than 32
// redirects; see below.
//
// USHER-INPUT guards the listener ports in use, and only these. What NAT sent
// there is accepted, or an INPUT that drops by default would cut Services off.
// The rest is refused: listeners are reached through their frontends only. A
// listener port that equals the port of a frontend on an address of the node
// would be refused as well, because NAT then has nothing to change. Last come
// the ports of our own servers (Rules.Open). Firewalls in tables of their own
// (nft, firewalld) are not overruled by an ACCEPT here.
//
// USHER-RETURN exists if Rules.Returning is set. A connection to an endpoint
// that we made from the client's address is answered to that address, which the
// node would forward the answer to. The mark lets a rule of the caller's
// (ip rule add fwmark) choose a route that brings it to our socket. Sockets
// without IP_TRANSPARENT, those of ordinary programs, are passed over, and so
// are those that are bound to no address (--nowildcard would include them). A
// UDP socket of another program may have both and be connected to nobody, such
// as one that intercepts DNS: it would match all that is sent to its address and
// port. So datagrams have to be replies, as conntrack tells them; without it our
// frontends would not work either. The search for a socket adds 0.2 microseconds
// to the forwarding of a reply, and to that of other datagrams the rule adds 0.05
// (BenchmarkForward).
//
// # Many Services
//
// A new connection is compared with one rule after the other, so a chain of more
// than 32 redirects is split among chains of their own: by the next two bits after
// what their addresses have in common, at even places, and each part again as far
// as needed. Where they have the whole address in common, it is by protocol and
// then by port, as for NodePorts. Of 10,000 Services a connection passes at most 48
// rules, and is as fast as through one Service (BenchmarkConnect). The beginning of
// such a tree (lines shortened), with DNAT twins that are called the same but for
// -DNAT at the end:
//
//	-A USHER-SERVICES -d 10.96.0.0/26 -g USHER-10.96.0.0/26
//	-A USHER-SERVICES -d 10.96.0.64/26 -g USHER-10.96.0.64/26
//	-A USHER-10.96.0.0/26 -d 10.96.0.0/28 -g USHER-10.96.0.0/28
//	-A USHER-10.96.0.0/26 -d 10.96.0.16/28 -g USHER-10.96.0.16/28
//	-A USHER-10.96.0.16/28 -d 10.96.0.20/32 -p tcp --dport 80 --comment "shop/web:http" -j REDIRECT --to-ports 11000
//	-A USHER-NODEPORTS -p tcp --dport 30080:30143 -g USHER-TCP-30080-30143
//	-A USHER-TCP-30080-30143 -p tcp --dport 30080 --comment "shop/web:http" -j REDIRECT --to-ports 11000
//
// A part belongs to one chain only, so there is no way back to the chain before
// (-g), but to USHER-REDIRECT, which then asks for NodePorts. Names with no room
// for what is inside are a hash of it. The tree depends on nothing but the
// redirects: one more or less changes the chain that it is in, and seldom those
// beside it, and only these are written. At most 12 chains follow each other, as
// the kernel allows nft no more than 16 jumps; what could still be split then is
// not. USHER-INPUT is split likewise, by port, where the listener ports are not in
// a row.
//
// At that size iptables-nft-restore writes one chain in 10 ms of CPU time, and all
// of them in 0.7 s; the legacy backend writes the whole table in any case, in 0.1 s.
// iptables-save, which Verify runs, takes 0.2 s.
//
// # Sources
//
// The words are those of iptables(8), iptables-extensions(8) and
// iptables-restore(8). That REDIRECT drops is in net/netfilter/nf_nat_redirect.c
// of Linux: it takes the first IPv4 address of the incoming interface, or the
// first IPv6 address that is not tentative. The mark and the route for
// transparent sockets are those of Documentation/networking/tproxy.rst there.
package iptables
