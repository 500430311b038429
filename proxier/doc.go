// Package proxier makes the Services of a cluster work on one node, from user
// space.
//
// # The way of a change
//
//  1. An object changes: the source wakes the loop (Proxier.loop).
//  2. The whole desired state is computed from the objects: desire, a pure
//     function from Services, EndpointSlices and this node to a list of Port.
//  3. Each Port is compared with its listener: sockets are opened, the pickers of
//     a changed one are swapped by one atomic store (Proxier.prepare).
//  4. One batch makes the kernel lead every frontend to its listener
//     (capture.apply). Only then what is not needed any more is closed
//     (Proxier.settle).
//
// The listener and its pickers exist before the rule that leads to them, and the
// rule is gone before the listener. A step that fails is tried again by the next
// pass, from the full state; nothing depends on the order of events.
//
// # Which endpoints
//
// A Port has two sets of endpoints: those of the cluster, narrowed by topology
// hints, and those on this node (endpoints.go, topology.go). Which of them a
// client gets depends on the address that it dials and on whether it is on this
// node itself (Policy in port.go, clients.go). A set without endpoints either
// refuses clients or is silent, and it is the state of a socket that does so
// (answer.go, socket.go, filter.go): endpoints that come and go never touch a
// rule.
//
// # The way of a byte
//
//  5. A connection arrives: a poller accepts it (accept.go, package tcp) and sees to it
//     up to where it has to wait; then another goroutine polls.
//  6. connection.admit finds out which frontend the client has dialled, and
//     whether it may; connection.enter passes the limits, or waits (package limit).
//  7. Package dial picks an endpoint and connects, from the client's own address
//     where that is promised and possible (clientsource.go); when that fails it
//     picks another one, within a budget of attempts, time and retries.
//  8. Package relay copies both ways, whenever there is something to copy; in between
//     nobody waits. Where the Service asks for it, what an endpoint ended without an
//     answer is given to another one. connection.end tells the record to package
//     observe, whatever the end was.
//
// # What a Service asks for
//
// Annotations of a Service become annotation.Settings, a plain value in its Port
// (annotations.go): the policy, retries, limits, checks. A listener gives them to
// those that act on them whenever it is brought up to date.
//
// # Which endpoints are well
//
// A listener has a detector (package outlier), which hears how attempts and checks
// end. Between the sets of eligible endpoints and the policy it leaves out those
// that are ill, and has a new picker made whenever that changes; no pass is needed.
// Connections to endpoints that have left are ended by passes, if at all
// (leaving.go).
//
// # The way of a datagram
//
// UDP has no connections; sessions take their place (package udp). A packetServer
// (packets.go) tells for each new client which endpoint it gets, by the same
// frontends, sets, pickers and source addresses, and writes the record of its
// session. As a redirected datagram does not tell where it was sent to, every
// frontend of a UDP Port has a socket of its own. Where the rules lead a flow is
// decided by its first datagram only: staleFlows (staleflows.go) makes the kernel
// forget flows that contradict the rules after every change.
//
// # What can be seen and done from outside
//
// Whoever asks at the admin socket (package admin, with a table of its paths) is answered by
// other goroutines than those that serve. They read what the last pass has left (seen in
// status.go), the counters of package observe and its ring of records: the views (status.go
// and a view_*.go for each subject) and the feed of flows (view_flows.go). Looking at a live
// connection takes its lock for a moment (view_connections.go).
//
// explain.go follows a connection that nobody makes, by the same functions that serve one: the
// steps are in explain_steps.go, the rules that lead to them in explain_trail.go. A trace
// (trace.go, trace_events.go, trace_stream.go) tells what new connections come to; while there
// is none it costs them one atomic load.
//
// What changes something (actions.go) asks the loop to do it, or ends connections as everybody
// does: repairing rules (rules.go), draining endpoints until usher is stopped (override.go), and
// killing connections (kill.go).
//
// # Going on in another process
//
// An upgrade (upgrade.go) loses nothing: everything comes to rest, goes to another process as
// plain data with its sockets, and goes on there.
//
//  1. The program is tried as a child, with the state of now (Inherit, Check).
//  2. Sockets accept nobody, who comes waits in the kernel (handover_leave.go). Relays are
//     released and searches for an endpoint parked (departure.go). What rests early is packed
//     and posted while bytes still move in other connections; they and UDP sessions rest last.
//  3. handover_pack.go makes a handedOver of it (handover.go, handover_connections.go), which a
//     carrier takes along: exec in place, systemd's store, or a socket (takeover.go; package
//     handover). With an error everything goes on here.
//  4. The next process reads what it has inherited (inheritance.go). It has those connections
//     go on that rested last before it looks at anything else, then the others, then listeners
//     by what they were served by, and then all that is new (handover_adopt.go). What nobody
//     has taken by the end of the first complete pass is closed.
//
// What is served beside Services goes along, too (servers.go). After a crash there are only
// the sockets that a Keeper has (keep.go).
//
// # Who owns what
//
// The loop owns the map of listeners and everything in the kernel. A listener
// owns its sockets. A connection owns its two sockets, from relay.Start on its relay
// does, and nobody else closes them; the loops of package udp own their sessions. The
// capture is one of two: redirect (capture_iptables.go) or bind (capture_bind.go).
//
// Read port.go for the words, reconcile.go for a pass, connection.go for the
// data path.
package proxier
