// Package limit keeps the connections of a Service port, and of the whole process,
// within bounds.
//
//	whole := limit.NewWhole(func() limit.Room { return limit.RoomIn(limit.Free(sockets)) })
//	gate := limit.NewGate(limits, whole)     // one per Service port
//	visit, err := gate.Enter(ctx, client)    // one per connection
//	if err != nil {
//		...                                  // *Exceeded says which limit it was
//	}
//	defer visit.Leave()
//	leave, ok := gate.Endpoint(endpoint)     // false: choose another one
//	...
//	endpoint, leave, err = visit.WaitEndpoint(ctx, full) // when all were full
//
// # Who waits, and who is next
//
// A connection is admitted when no limit keeps it out. Otherwise it is refused, or
// with [Limits].Wait it waits for its turn. Of those that wait at a Gate the one that
// came first is next, and a newcomer comes after them all. There is one exception:
// who is kept out by the limit of its own client holds up nobody else. Whatever makes
// room admits as many as there is room for and wakes nobody else.
//
// The room of the process goes to the Gates in turn, one connection each, so that a
// crowd in front of one Service does not starve the others.
//
// The time in Limits.Wait is that of one connection at all limits together. Who
// cannot get a token of Limits.Rate within it is refused at once. A connection that
// waits keeps its socket; therefore no more than a thousand wait at a Gate, of one
// client no more than its limit or a quarter of that, and in the process no more than
// Room.Waiting. Beyond that they are refused at once.
//
// # What counts
//
// A limit may be set at any time. Limits.Connections and the limit of the process
// count every connection. Limits.PerClient counts those that came while the Gate had
// a limit of connections, clients or rate, or that had to wait; Limits.PerEndpoint
// those that came while it was set. To count always would cost every connection of
// every Service what all limits cost, two locks and two maps, about 350 ns instead of
// 25, for limits that most Services never have.
//
// A client is one IP address, of either family: an IPv4-mapped one is that IPv4
// address, and a link-local one is told apart by its interface. All the addresses of
// an IPv6 prefix are clients of their own.
//
// # Restarts
//
// Connections may outlive the process that has admitted them. The next one sets the limits
// of a Gate, gives it what [Gate.State] said, and counts the connections in by
// [Gate.Restore] and [Gate.RestoreEndpoint], whatever the limits are now. Those that were
// waiting to be admitted come by [Gate.EnterAgain], in the order in which they are to have
// their turns.
//
// # Files
//
// What bounds a process is the number of files that it may have open. files.go says
// how many connections that makes, and what is kept for everything else. That holds
// only if few connections at a time are accepted and neither counted by [Gate.Enter],
// which they are when it returns or asks its context when that is done, nor closed: in a
// flood, what is accepted faster than judged takes files that no limit knows of.
package limit
