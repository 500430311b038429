package relay

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// State is what a relay knows that its two sockets do not. It is plain data, for
// encoding/json as well, but for the files of its pipes. Times lose what Go's monotonic clock
// adds to them.
type State struct {
	Started         time.Time // when the first relay did
	Began           time.Time // when the relay began with this backend; zero: it is to begin
	Hold            bool      // no backend has answered yet, and Held is complete
	In, Out         int64     // bytes written so far, to the backend and to the client
	Client, Backend Side      // Close and Sent are CloseNone or CloseFIN, but for what Reason tells
	// ToBackend and ToClient were read and are yet to be written: up to 32 KiB each. There is
	// a pipe instead of them if there was more.
	ToBackend, ToClient         []byte
	PipeToBackend, PipeToClient *Pipe
	// Held is all that the client has sent, with Hold. The first In bytes of it
	// were written.
	Held []byte
	// Reason is why one side has failed, empty if none has. What that one sent before is yet
	// to arrive at the other one. Errno is what the kernel said.
	Reason observe.Reason
	Errno  syscall.Errno
}

// Pipe is a pipe(7) with bytes that were read and are yet to be written. Whoever has the State
// owns its files; Resume takes them over.
type Pipe struct {
	R, W  int // files to read from it, and to write to it
	Bytes int // in it
}

// Close closes the files, for a State that nobody goes on with. p may be nil.
func (p *Pipe) Close() {
	if p != nil {
		unix.Close(p.R)
		unix.Close(p.W)
	}
}

var (
	// ErrNotNow is why a relay that looks for another backend is not released. It may be
	// soon after Replay or GiveUp; until then ReleaseClient does it.
	ErrNotNow = errors.New("the relay waits for another backend: use ReleaseClient, or release it after Replay or GiveUp")
	// ErrEnding is why a relay is not released whose owner hears, or has heard, of its end,
	// with nothing left to arrive; or that was released before.
	ErrEnding = errors.New("the relay has ended or was released")
)

// Release ends the relay and leaves both connections open, watched by nobody: Resume goes
// on with them, in this process or in another one. The owner hears nothing more. Nothing
// that comes from now on is read, and what was read is in the State.
//
// It waits for flows that move bytes to stop at the next chunk, and for Start if that was
// not called yet. With an error the relay is as it was, or ends as it would have. Like
// Abort it may be called at any time, but not by an Owner's method.
func (r *Relay) Release() (client, backend *tcp.Conn, s State, err error) {
	parted, err := r.part()
	if err != nil {
		return nil, nil, State{}, err
	}
	r.wakeBoth()
	return r.collect(parted)
}

// collect waits for both flows, and takes what they leave.
func (r *Relay) collect(parted <-chan struct{}) (client, backend *tcp.Conn, s State, err error) {
	<-parted
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.leaving || r.aborted != nil {
		return nil, nil, State{}, ErrEnding
	}
	return r.client.conn, r.backend.conn, r.state(), nil
}

// part has both flows stop. The channel is closed when they have, or when an Abort comes.
func (r *Relay) part() (parted <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	closes := r.open == 0 // slowly, if somebody waits
	switch {
	case r.isOver, r.leaving, !r.mayGoOn(), closes && r.aborted == nil:
		return nil, ErrEnding
	case r.early != nil, r.hold != nil && r.hold.lost != nil:
		return nil, ErrNotNow
	}
	r.leaving = true
	waits := r.aborted
	r.aborted = make(chan struct{})
	r.stop()
	if closes {
		close(waits)
	}
	return r.aborted, nil
}

// mayGoOn says whether there may be something left to do: for both flows, or for the one from
// a side that has failed. It needs r.mu.
func (r *Relay) mayGoOn() bool {
	if r.reason != "" {
		return r.errno != nil
	}
	return !(r.passedFIN(&r.up) && r.passedFIN(&r.down))
}

// goesOn is called when both flows have ended, and when what they have moved has arrived. It
// says whether that is not the end of the connection, because of Release.
func (r *Relay) goesOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaving && !r.isOver { // else Abort has closed it
		close(r.aborted)
	}
	r.aborted = nil
	r.leaving = r.leaving && !r.isOver && r.mayGoOn()
	if r.leaving {
		r.isOver = true
		r.clock.forget(r)
		r.client.conn.Unwatch()
		r.backend.conn.Unwatch()
	}
	return r.leaving
}

// passedFIN says whether a flow of a connection that nothing has gone wrong with has done
// all that there was to do. It needs r.mu.
func (r *Relay) passedFIN(f *flow) bool { return f.dst.sent == observe.CloseFIN }

// state needs r.mu, and that both flows have ended. Nothing is kept here.
func (r *Relay) state() State {
	if r.reason != "" {
		r.letGo()
	}
	s := State{
		Started: r.born.time(), Began: r.begun.time(), Hold: r.hold != nil, Reason: r.reason, Errno: errnoOf(r.errno),
		Client: r.client.result(), Backend: r.backend.result(),
	}
	s.In, s.Out = r.Moved()
	if r.hold != nil {
		s.Held = append(s.Held, r.hold.data...)
		r.hold.free()
		r.hold = nil
	}
	s.ToBackend, s.PipeToBackend = r.up.takeLeft()
	s.ToClient, s.PipeToClient = r.down.takeLeft()
	return s
}

// errnoOf is the kernel's number of an error.
func errnoOf(err error) (n syscall.Errno) {
	if err != nil && !errors.As(err, &n) {
		n = syscall.EIO
	}
	return n
}

// takeLeft takes what was read and not written yet.
func (f *flow) takeLeft() (data []byte, in *Pipe) {
	left := f.left
	f.left = nil
	switch {
	case left == nil:
		return nil, nil
	case left.pipe == nil:
		return left.rest, nil
	}
	return nil, left.pipe.release()
}

// waiting is how much was read and not written yet.
func (f *flow) waiting() int {
	switch {
	case f.left == nil:
		return 0
	case f.left.pipe == nil:
		return len(f.left.rest)
	}
	return f.left.pipe.n
}

// drop forgets what was read and not written yet.
func (f *flow) drop() {
	if f.left != nil && f.left.pipe != nil {
		f.left.pipe.put()
	}
	f.left = nil
}

// Resume prepares a relay that goes on where Release has ended another one, with the same
// connections, or ReleaseClient, with the same client and a new backend. It owns both from
// Start on. What the owner of that one was told, this one
// is not told again. Silence is measured anew; whether it holds is for the State to say. It
// fails if no Release has made such a State.
func Resume(client, backend *tcp.Conn, s State, settings Settings, owner Owner) (*Relay, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("cannot resume a relay: %w", err)
	}
	settings.Hold = s.Hold
	r := New(client, backend, settings, owner)
	r.client.recall(s.Client)
	r.backend.recall(s.Backend)
	r.born, r.begun = momentOf(s.Started).tick(), momentOf(s.Began)
	if s.Reason != "" {
		r.reason, r.errno = s.Reason, s.Errno
	}
	r.up.recall(s.In, s.ToBackend, s.PipeToBackend)
	r.down.recall(s.Out, s.ToClient, s.PipeToClient)
	if r.hold != nil {
		r.hold.recall(s.Held, int(s.In))
	}
	return r, nil
}

// check finds what no relay is in.
func (s *State) check() error {
	failed := 0
	for _, side := range []Side{s.Client, s.Backend} {
		if side.Close > observe.CloseFIN {
			failed++
		}
		if side.Close > observe.CloseLocal || side.Sent > observe.CloseFIN {
			return fmt.Errorf("a side has ended by %v and was sent %v", side.Close, side.Sent)
		}
	}
	atBackend, atClient := s.Backend.Sent == observe.CloseFIN, s.Client.Sent == observe.CloseFIN
	toBackend, errBackend := left(s.ToBackend, s.PipeToBackend)
	toClient, errClient := left(s.ToClient, s.PipeToClient)
	switch {
	case errBackend != nil || errClient != nil:
		return errors.Join(errBackend, errClient)
	case (s.Reason == "") != (s.Errno == 0), s.Reason == "" && failed > 0, failed > 1, s.Reason != "" && s.Hold:
		return fmt.Errorf("%d sides have failed by %q (%v)", failed, s.Reason, s.Errno)
	case atBackend && atClient && s.Reason == "":
		return errors.New("both sides have ended")
	case atBackend && toBackend > 0, atClient && toClient > 0:
		return errors.New("there is something to write after a FIN")
	case s.In < 0 || s.Out < 0:
		return fmt.Errorf("%d and %d bytes were moved", s.In, s.Out)
	case s.Hold && (len(s.Held) > HoldLimit || s.In > int64(len(s.Held)) || toBackend+toClient > 0):
		return fmt.Errorf("%d bytes are held, %d of them were sent, %d and %d wait", len(s.Held), s.In, toBackend, toClient)
	case !s.Hold && len(s.Held) > 0:
		return fmt.Errorf("%d bytes are held for no replay", len(s.Held))
	}
	return nil
}

// left is how much is yet to be written.
func left(data []byte, in *Pipe) (int, error) {
	switch {
	case in == nil:
		return len(data), nil
	case len(data) > 0, in.Bytes <= 0, in.R < 0, in.W < 0:
		return 0, fmt.Errorf("%d bytes wait, and %d in a pipe (files %d and %d)", len(data), in.Bytes, in.R, in.W)
	}
	return in.Bytes, nil
}

func (s *side) recall(was Side) {
	s.closed, s.sent, s.first, s.at = was.Close, was.Sent, momentOf(was.First), momentOf(was.At)
}

// recall is called when both sides know what they were.
func (f *flow) recall(moved int64, left []byte, in *Pipe) {
	f.moved.Store(moved)
	f.begun = f.src.first != 0
	switch {
	case in != nil:
		f.left = &leftover{pipe: adoptPipe(in)}
	case len(left) > 0:
		f.left = &leftover{rest: left}
	}
	switch {
	case f.relay.passedFIN(f), f.relay.reason != "" && isThere(f.src): // the other side has failed
		f.state.Store(over)
		f.relay.open--
	case f.left != nil:
		f.state.Store(stuck)
		f.dst.conn.WantWrite() // nobody watches it yet: this only has it asked for
	}
}

func (h *hold) recall(data []byte, sent int) {
	for cap(h.data) < len(data) {
		h.data = grow(h.data)
	}
	h.data, h.sent = append(h.data, data...), sent
}

// momentOf is t as a moment, which may be before the process began.
func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	if m := moment(t.Sub(processBegan)); m != 0 {
		return m
	}
	return 1
}
