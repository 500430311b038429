package relay

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// EarlyEnd is a backend's end of a connection on which it has sent nothing.
type EarlyEnd struct {
	Close observe.Close // CloseRST, CloseFIN, or CloseTimeout: it is gone
	Errno error         // what the kernel said, nil for a FIN
}

func (e *EarlyEnd) Error() string {
	if e.Errno == nil {
		return "the endpoint closed the connection before it had sent anything"
	}
	return fmt.Sprintf("the endpoint ended the connection before it had sent anything: %v", e.Errno)
}

// Unwrap returns the kernel's error.
func (e *EarlyEnd) Unwrap() error { return e.Errno }

// AwaitAnswer begins to relay, holds what the client sends, and waits until the
// backend answers. An error is always an *EarlyEnd: Replay may follow with
// another backend, and AwaitAnswer again. In every other case it returns nil:
// the backend has answered, or there is no replay any more, or the connection has
// failed in another way; Run, which lets go of what is held, has to follow at once.
//
// It is called by the goroutine that calls Run, and before it.
func (r *Relay) AwaitAnswer() error {
	if r.answer == nil {
		r.early = r.awaitAnswer()
	}
	if r.early == nil {
		return nil
	}
	return r.early
}

func (r *Relay) awaitAnswer() *EarlyEnd {
	r.mu.Lock()
	if r.hold == nil {
		r.hold = &hold{}
	}
	r.mu.Unlock()
	r.start()
	answer := r.await(r.backend)
	r.answer = &answer
	if answer.byte {
		return nil
	}
	reset, early := r.judge()
	if !early || !r.recall() {
		return nil
	}
	return r.earlyEnd(reset)
}

// judge tells whether the end that came instead of an answer allows for a replay,
// and whether what looks like a FIN is a reset.
func (r *Relay) judge() (reset, early bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.answer.err != nil:
		return false, isEarly(CloseOf(r.answer.err))
	case r.looksReset(r.backend):
		return true, true
	}
	if r.client.First.IsZero() && time.Since(r.begun) > r.prompt {
		return false, false // nobody has asked it for anything: it does not wait any longer
	}
	return false, r.backend.Sent != observe.CloseFIN // else it is an empty answer
}

// prompt is how soon a backend that was asked for nothing closes if it cannot serve:
// later it is its timeout for idle connections.
const prompt = 2 * time.Second

func isEarly(how observe.Close) bool {
	return how == observe.CloseRST || how == observe.CloseTimeout
}

// earlyEnd puts together what both directions were told of the end.
func (r *Relay) earlyEnd(reset bool) *EarlyEnd {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.answer.err
	if reset {
		err = r.hold.lost // it was told, and so the read was not
		if err == nil {
			err = syscall.ECONNRESET
		}
	}
	r.hold.lost, r.answer.err = nil, err
	if err == nil {
		return &EarlyEnd{Close: observe.CloseFIN}
	}
	if how := CloseOf(err); isEarly(how) {
		return &EarlyEnd{Close: how, Errno: err}
	}
	return nil
}

// recall stops the direction of the client, so that it can begin anew with
// another backend. It returns false if it must not: it has let go of what it
// held, or the connection has failed.
func (r *Relay) recall() bool {
	r.mu.Lock()
	if r.hold.over || r.reason != "" {
		r.mu.Unlock()
		return false
	}
	// Once these are set, nothing more is taken from the client, and a write
	// tells how far it came: no byte is lost.
	r.recalled = true
	r.client.conn.SetReadDeadline(past)
	r.backend.conn.SetWriteDeadline(past)
	r.mu.Unlock()
	<-r.upstream

	r.mu.Lock()
	defer r.mu.Unlock()
	r.recalled = false
	if r.reason != "" {
		return false
	}
	r.client.conn.SetReadDeadline(time.Time{})
	r.backend.conn.SetWriteDeadline(time.Time{})
	r.unwatch()
	r.upstream = nil
	return !r.hold.over
}

// Replay puts another backend in the place of the one that ended early, which is
// closed. The relay owns the new one, and sends it everything that the client
// has sent. It may only be called after AwaitAnswer has returned an error.
func (r *Relay) Replay(backend *net.TCPConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backend.conn.SetLinger(0) // a reset: nobody waits for an answer any more
	r.backend.conn.Close()
	r.backend = newBackend(backend)
	r.hold.sent = 0
	r.answer = nil
	r.clientMayHaveGone()
	if r.reason != "" {
		r.interrupt()
	}
}

// checkClient is called when no other backend was found.
func (r *Relay) checkClient() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clientMayHaveGone()
}

// clientMayHaveGone is called after another backend was looked for. The caller holds
// r.mu.
func (r *Relay) clientMayHaveGone() {
	if r.reason == "" && r.looksReset(r.client) {
		r.blame(r.client, syscall.ECONNRESET)
	}
}

// copyHeld moves the client's direction to its end and returns the bytes moved.
// It holds the bytes until that is over.
func (r *Relay) copyHeld(dst, src *side) int64 {
	for {
		if err := r.sendHeld(dst); err != nil {
			r.cannotSend(dst, err)
			return int64(r.hold.sent)
		}
		first := r.await(src)
		if !first.byte || !r.take(src) {
			return int64(r.hold.sent) + r.rest(dst, src, first)
		}
	}
}

// sendHeld sends what is held to dst, as far as it was not sent yet.
func (r *Relay) sendHeld(dst *side) error {
	r.mu.Lock()
	r.hold.inUse = true
	unsent := r.hold.unsent()
	r.mu.Unlock()
	if len(unsent) == 0 {
		return r.sent(0, nil)
	}
	return r.sent(dst.conn.Write(unsent))
}

func (r *Relay) sent(n int, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold.inUse = false
	r.hold.sent += n
	if r.hold.over {
		r.hold.letGo()
	}
	return err
}

// cannotSend is called when the held bytes cannot be sent.
func (r *Relay) cannotSend(dst *side, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.isConsequence(err):
	case !r.hold.over && isClosed(dst.conn):
		r.hold.lost = err // AwaitAnswer wakes up too: there may be an answer before it
	default:
		r.blame(dst, err)
	}
}

// take holds what src has to read. It returns false if nothing is held any more.
func (r *Relay) take(src *side) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hold.full() {
		r.hold.letGo()
	}
	if r.hold.over {
		return false
	}
	r.hold.fill(src.conn)
	return true
}

// letGo ends the holding, if there is any: from now on there is one backend.
func (r *Relay) letGo() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hold == nil || r.hold.over {
		return
	}
	r.hold.letGo()
	if r.hold.lost != nil && r.reason == "" {
		r.blame(r.backend, r.hold.lost)
	}
}
