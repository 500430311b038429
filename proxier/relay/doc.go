// Package relay moves the bytes of one connection between client and endpoint.
//
// A [Relay] has two flows, one for each direction. A flow that has nothing to move rests:
// it has no goroutine, no buffer and no pipe, only its two sockets at a poller (package
// tcp). When bytes come the poller wakes it up, and io.Copy moves them until it would have
// to wait, for more of them or for room (flow.go).
//
// What comes in small amounts goes through a buffer, in the poller itself. After two full
// buffers the flow gets a goroutine of its own, and a pipe: splice(2) moves the rest
// without copying it, and others of the poller do not wait for that (copy.go, splice.go).
// What was read and cannot be written yet is kept until there is room.
//
// What one peer does is done to the other: a FIN becomes a half-close, a reset becomes a
// reset once everything read before it has been delivered (relay.go, end.go). The owner is
// told of the end, and of the first byte of an answer.
//
// # Limits
//
// A relay ends when one side is silent for too long after the other one's FIN, when both
// are, or when it is too old ([Limits]). One [Clock] calls all relays of a proxier when that
// may be so; it is asked once in a while and not for every byte, so a limit is reached
// between its time and a quarter more. It also tells the kernel when an endpoint is gone
// (keep-alive): a connection of a second needs no system calls for that. Such an end is a
// reset for both sides. A FIN would tell each peer that the other one is done.
//
// # Replay
//
// Usually an endpoint that ends the connection without an answer ends it for
// the client, too. With Settings.Hold the client may get another endpoint:
//
//	func (o *owner) EndedEarly(e *relay.EarlyEnd) { go o.replay() }
//
//	func (o *owner) replay() {
//		another := connect() // and write the PROXY protocol header, if any
//		if another == nil {
//			o.relay.GiveUp() // the client gets what it would have got without replay
//			return
//		}
//		o.relay.Replay(another)
//	}
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
//
// # Urgent data
//
// A byte that was sent as urgent (tcp(7)) arrives in its place, as an ordinary one. That is
// where RFC 6093 wants it; which byte it was is not passed on (urgent.go).
//
// # Hand-over
//
// A connection can go on with another relay, also in another process. Release stops both
// flows, closes nothing, and says what the sockets do not know: what was read and is yet to
// be written (a pipe goes along as it is), which FIN was passed on, what is held for a replay.
// Resume goes on exactly there:
//
//	client, backend, state, err := r.Release()
//	if err != nil {
//		return err // it ends, which its owner hears, or waits for another backend
//	}
//	// Its files and state, as JSON, may go to another process from here.
//	r, err = relay.Resume(client, backend, state, settings, owner)
//	if err == nil {
//		r.Start()
//	}
//
// ReleaseAll does it for many relays at a time. One with a side that has failed goes along too,
// as long as what that side had sent before has not arrived.
//
// A relay that waits for another backend has only its client to give away. Its owner stops
// to look for one, and ReleaseClient takes the place of Replay and GiveUp. Whoever gets the
// client connects to another backend before Resume, and that one gets what is held:
//
//	client, state, err := r.ReleaseClient()
//	if err != nil {
//		r.GiveUp() // it is about to end
//		return
//	}
//	// The client's file and state may go to another process from here.
//	r, err = relay.Resume(client, another, state, settings, owner)
package relay
