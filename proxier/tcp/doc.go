// Package tcp has TCP connections that wait for nothing.
//
// A [Conn] is a non-blocking socket that the runtime's poller does not know. Reading,
// writing and accepting do what is possible now, or say [ErrWait]. Whoever has to wait
// has a [Poller] watch the socket, and is called when there is something to do:
//
//	n, err := conn.Read(buf)
//	if err == tcp.ErrWait {
//		conn.Watch(handler) // handler.Ready is called when there is something to read
//	}
//
// So a connection on which nothing happens costs its socket and some bytes: no
// goroutine, no buffer. The runtime's own poller would be woken by every segment that
// arrives, also when nobody waits for it.
//
// # Pollers
//
// There is one poller for each processor, up to eight. Each has a thread that waits in
// epoll_wait(2) and calls the handlers of what has happened, one after the other. A
// handler must not block. One that has to calls [Poller.HandOver] first: another goroutine
// polls from then on, and the handler goes on as any other.
//
// A poller tells of changes (EPOLLET of epoll(7)): of bytes that have come since the
// last time, not of those that are there. A handler therefore reads until it gets
// ErrWait, or fewer bytes than it has asked for (but see [Events.Urgent]). All pollers
// watch every [Listener], and the kernel wakes one of them for a client (EPOLLEXCLUSIVE).
//
// # Concurrency
//
// One goroutine at a time may read from a Conn, and one may write to it. Close is only
// for an owner who knows that nobody else uses it, as the number of a closed file is
// soon that of another one.
package tcp
