// Package relay moves the bytes of one connection between client and endpoint.
//
// Each direction is one io.Copy between two bare *net.TCPConn, which the
// runtime turns into splice(2): the bytes never enter user space. What one peer
// does is done to the other: a FIN becomes a half-close, a reset becomes a reset
// once everything read before it has been delivered.
//
// Before it copies, a direction waits for its first byte without taking it
// (first.go). So the time of it is known, and a connection on which nothing was
// sent yet needs no pipe.
//
// Run owns both connections and has closed them when it returns.
//
// # Replay
//
// Usually an endpoint that ends the connection without an answer ends it for
// the client, too. With AwaitAnswer the client may get another endpoint:
//
//	r := relay.New(client, backend, halfClose)
//	for err := r.AwaitAnswer(); err != nil; err = r.AwaitAnswer() {
//		another := connect() // and write the PROXY protocol header, if any
//		if another == nil {
//			break // the client gets what it would have got without replay
//		}
//		r.Replay(another)
//	}
//	result := r.Run()
//
// Until the backend's first byte the bytes of the client are not only sent but
// held, up to HoldLimit (hold.go). A backend that resets or closes its side
// before that byte has ended early, and what is held can be sent to another one,
// as can the client's FIN, or nothing at all if the client waits for the backend
// to begin (replay.go).
//
// The risk: a backend that ends without an answer may have done what it was
// asked for, and another one does it again. That is right for requests that may
// be repeated, and only who runs the Service knows whether they may.
//
// These are answers and final: a first byte; a FIN that comes after the
// client's own FIN was passed on, as "nothing" may be what there is to say; and
// a FIN after more than two seconds in which the client has sent nothing, which
// is how a backend ends an idle connection. After more than HoldLimit bytes of
// the client there is no replay either.
package relay
