// Package udp moves datagrams between the clients of a Service and its endpoints.
//
//	relay, err := udp.New(udp.Config{...})
//	group := relay.Group(udp.Limits{Sessions: 4096, Idle: 30 * time.Second, Stream: 2 * time.Minute})
//	socket, err := relay.Listen(address, group) // bound, and refuses what comes
//	err = socket.Serve(server)                  // server says where a client's datagrams go
//	...
//	socket.Close(observe.ServiceRemoved)
//	relay.Close()
//
// # Sessions
//
// UDP has no connections. What takes their place is a session: all datagrams from
// one address and port of a client to one address of ours go to one endpoint, by a
// socket that is connected to it, so that the kernel tells replies apart and lets
// us know when nobody is there. A session ends when nothing has passed for some
// time, when another one needs its room (table.go), or with its Socket.
//
// When the endpoint is not to be used any more, or has refused a datagram, the
// client's next datagram begins another session with another endpoint. The old one
// stays for replies that are on their way. A client's very first datagram is kept
// until something comes back: if the endpoint refuses it, another one gets it.
//
// # The way of a datagram
//
//  1. A loop finds that something can be read from a Socket, and reads up to 64
//     datagrams with one system call, each with where it comes from and which of
//     our addresses it went to (reader.go, batch.go, address.go).
//  2. They are grouped by session. Clients that are known go first; newcomers get
//     a session (session.go), if there are not too many of them.
//  3. Each group is sent with one system call, and those of one size as one packet
//     that the kernel cuts up as late as it can (send.go, outgoing.go).
//  4. Replies are collected from all sessions that have some, and sent to their
//     clients with one system call, from the addresses that these have asked.
//
// Nothing blocks and nothing is allocated for a datagram. What cannot be passed on
// is dropped and counted, as UDP promises no more. A datagram is passed on whole or
// not at all, and nothing is ever sent that an endpoint or a client has not sent.
//
// # Who owns what
//
// A loop is a goroutine with an epoll set; it owns the sockets that it reads and
// all sessions that began there. The Table is shared by all loops and has the only
// lock on the way of a datagram, which is taken once a second and session at most.
// A Socket belongs to one goroutine of its user's, and has its loops do what
// concerns them.
//
// # Hand-over
//
// A Socket can go on with another Relay, also in another process. Release stops reading,
// closes nothing, and says what the files do not know: who the client of each session is,
// its counters, how long it has been idle, whether its endpoint has refused. Resume goes on
// exactly there:
//
//	state, err := socket.Release()
//	...
//	// The files, and state as JSON with Route.Of beside it, may go to another process.
//	socket, err = relay.Resume(state, group, server)
//
// Meanwhile datagrams and replies wait in the kernel's queues of the same files, and so do
// errors. The kernel does not care which process has a file: which reader a client's
// datagrams come to (SO_REUSEPORT), filters and local ports stay as they are. Which
// endpoints have refused something lately is learned anew (but sessions that were refused
// know it).
package udp
