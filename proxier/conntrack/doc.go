// Package conntrack makes the kernel forget UDP flows that it goes on handling
// as before although the rules have changed.
//
//	flows, err := conntrack.New(iptables.IPv4)
//	...
//	deleted, err := flows.Sync(to, addresses)  // after every write of the rules
//	...
//	flows.Close()
//
// # Why
//
// The kernel's connection tracking has an entry for every flow: the protocol, and
// the addresses and ports of both directions. The nat rules are asked for the
// first packet of a flow only. What they decide is kept in the entry and holds for
// all other packets, whatever the rules say by then.
//
// For TCP that is welcome: a connection stays with the process that has accepted
// it, and the next one asks the rules again. UDP has no connections. All
// datagrams from one client port to one destination are one flow, and each of them
// renews the entry, so that it never expires while the client goes on. DNS
// forwarders, syslog, SIP and QUIC use one port for days. Such a client would be
// lost for as long if the rules change under it:
//
//   - It was there before the Service. Its first datagram met no rule, and all
//     others are forwarded to an address that nobody has.
//   - It was there before usher. kube-proxy has sent it to a pod, and it goes on
//     to that pod, past usher, even when the pod is gone.
//   - The listener has a new port. Datagrams arrive at the old one, which is
//     closed, or belongs to another Service by now.
//   - The Service is gone, and the same happens.
//
// Once the entry is deleted, the next datagram is the first of a new flow and asks
// the rules.
//
// Changes of endpoints need none of this: entries lead to usher's own port, and
// usher chooses the endpoint.
//
// # What is deleted
//
// An entry tells the original destination (what the client sends to) and the
// source of replies (where the datagrams really go). It is deleted if it is one of
// UDP and
//
//   - its destination is captured, and the datagrams do not go to one of the
//     ports that the caller tells for it, on an address of this node; or
//   - its destination is captured by a socket bound to it, without any rule, and
//     the entry changes any address or port; or
//   - its destination is not captured, and yet the datagrams are redirected to one
//     of the caller's ports, or to one that has been its own since the last
//     success. Only rules of the caller can have made it.
//
// The last rule covers removed frontends. It looks at the port and not at what was
// captured before, for three reasons: entries left by a former process are found
// where they do harm, at a port that serves another Service now; what is to be
// remembered until a deletion succeeds is bounded by the number of ports; and
// entries that somebody else has made for the destination meanwhile, such as
// another proxy that has taken over the Service, stay. So do those without NAT:
// they are what the kernel would do anyway.
//
// Everything else stays, and TCP always: deleting its entries would break
// connections.
//
// # When
//
// Sync must come after the new rules are in force, or a datagram in between would
// make the old entry anew. It reads the family's whole table, which takes some
// milliseconds, about 5 microseconds more for each entry of any protocol, and a few
// hundred bytes of memory for each. If nothing has changed since the last success
// it reads nothing.
//
// # Sources
//
// kube-proxy's pkg/proxy/conntrack does the same for flows that go to pods. Flows
// from before the rules are kubernetes/kubernetes#48370, those of removed Services
// #141275; why a start must not delete more than what is stale, #122740. How
// entries are listed and deleted is in net/netfilter/nf_conntrack_netlink.c of
// Linux, that nat rules are asked once in net/netfilter/nf_nat_core.c.
package conntrack
