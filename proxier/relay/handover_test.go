package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/tcp/tcptest"
)

// predecessor is the owner of a relay that may be released. It hears nothing after that.
type predecessor struct {
	Owner
	t        *testing.T
	released atomic.Bool
}

func (p *predecessor) hear(what string) Owner {
	if p.released.Load() {
		p.t.Errorf("the owner of a released relay heard of %s", what)
	}
	return p.Owner
}

func (p *predecessor) Answered(took time.Duration) { p.hear("an answer").Answered(took) }
func (p *predecessor) EndedEarly(e *EarlyEnd)      { p.hear("an early end").EndedEarly(e) }
func (p *predecessor) Ended(r Result)              { p.hear("the end").Ended(r) }

// succeed puts a successor in the place of the relay, as another process would: with new
// files of the same connections, and a State that was written down. It does not start it.
func (s *scene) succeed() (State, error) {
	client, backend, state, err := s.relay.Release()
	if err != nil {
		return state, err
	}
	if old, ok := s.relay.owner.(*predecessor); ok {
		old.released.Store(true)
	}
	written, err := json.Marshal(state)
	if err != nil {
		return state, err
	}
	var read State
	if err := json.Unmarshal(written, &read); err != nil {
		return state, err
	}
	successor, err := Resume(another(client), another(backend), read, s.relay.settings(), &predecessor{Owner: s, t: s.t})
	if err == nil {
		s.relay = successor
	}
	return read, err
}

// another is a file of the same connection.
func another(c *tcp.Conn) *tcp.Conn {
	fd, err := unix.FcntlInt(uintptr(c.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	c.Close()
	return tcp.New(fd, pollers().For(nil))
}

func (s *scene) handOver() State {
	s.t.Helper()
	state, err := s.succeed()
	if err != nil {
		s.t.Fatalf("hand-over: %v", err)
	}
	s.relay.Start()
	return state
}

// narrowPair is a pair that takes little of what the first end does not read.
func narrowPair(t *testing.T) (dialled, accepted *net.TCPConn) {
	dialled, accepted = tcptest.Pair(t, net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) })
	}})
	accepted.SetWriteBuffer(8 << 10)
	return dialled, accepted
}

// untilStuck waits until a flow has something that there is no room for.
func untilStuck(t *testing.T, f *flow) {
	t.Helper()
	eventually(t, "the flow is stuck", func() error {
		if state := f.state.Load(); state != stuck {
			return fmt.Errorf("its state is %d", state)
		}
		return nil
	})
}

// closeBoth has both peers close, and expects a good end.
func (s *scene) closeBoth() Result {
	s.t.Helper()
	s.client.CloseWrite()
	if rest, err := s.receive(s.backend); len(rest) > 0 || err != nil {
		s.t.Errorf("the backend got %d bytes too many, %v", len(rest), err)
	}
	s.backend.Close()
	if rest, err := s.receive(s.client); len(rest) > 0 || err != nil {
		s.t.Errorf("the client got %d bytes too many, %v", len(rest), err)
	}
	r := s.end()
	if r.Reason != observe.OK || r.Client.Close != observe.CloseFIN || r.Backend.Close != observe.CloseFIN {
		s.t.Errorf("result %+v", r)
	}
	return r
}

func TestAnIdleConnectionIsHandedOver(t *testing.T) {
	s := newScene(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	s.send(s.backend, []byte("answer"))
	s.get(s.client, 6)
	for range 5 {
		if state := s.handOver(); state.In != 7 || state.Out != 6 || len(state.ToBackend)+len(state.ToClient) > 0 || state.Backend.First.IsZero() {
			t.Fatalf("state %+v", state)
		}
	}
	s.send(s.client, []byte("more"))
	s.get(s.backend, 4)
	s.send(s.backend, []byte("most"))
	s.get(s.client, 4)
	r := s.closeBoth()
	if r.In != 11 || r.Out != 10 {
		t.Errorf("result %+v", r)
	}
	if took := <-s.took; len(s.took) > 0 || (took-r.Backend.First.Sub(r.Client.First)).Abs() > time.Millisecond {
		t.Errorf("Answered was told %v, and %d times more; the result is %+v", took, len(s.took), r)
	}
}

// What came while nobody had the connection is not waited for again.
func TestWhatComesBetweenReleaseAndStart(t *testing.T) {
	s := newScene(t, time.Minute)
	if _, err := s.succeed(); err != nil {
		t.Fatal(err)
	}
	s.send(s.client, []byte("request"))
	s.send(s.backend, []byte("hello"))
	waitSent(look(s.client), patience, nil)
	waitSent(look(s.backend), patience, nil)
	s.relay.Start()
	s.get(s.backend, 7)
	s.get(s.client, 5)
	s.closeBoth()
}

// What one peer does not read stays with the relay, in a buffer or in a pipe.
func TestWhatIsStuckIsHandedOver(t *testing.T) {
	t.Run("buffer", func(t *testing.T) {
		usePipes(limit.Pipes) // none is left
		defer usePipes(-limit.Pipes)
		handsOverWhatIsStuck(t, false)
	})
	t.Run("pipe", func(t *testing.T) { handsOverWhatIsStuck(t, true) })
}

func usePipes(n int) {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	pipes.used += n
}

func handsOverWhatIsStuck(t *testing.T, inPipe bool) {
	s := newScene(t, time.Minute)
	up, down := random(8<<20), random(8<<20)
	go s.client.Write(up)
	go s.backend.Write(down)
	untilStuck(t, &s.relay.up)
	untilStuck(t, &s.relay.down)
	if left := s.relay.down.left; left == nil || (left.pipe != nil) != inPipe {
		t.Fatalf("what is stuck is elsewhere: %+v", left)
	}
	for range 3 {
		state := s.handOver()
		up, _ := left(state.ToBackend, state.PipeToBackend)
		down, _ := left(state.ToClient, state.PipeToClient)
		if up == 0 || down == 0 || (state.PipeToClient != nil) != inPipe {
			t.Fatalf("%d and %d bytes were read that are yet to be written, in a pipe: %v", up, down, state.PipeToClient)
		}
	}
	if !bytes.Equal(s.get(s.backend, len(up)), up) || !bytes.Equal(s.get(s.client, len(down)), down) {
		t.Error("the bytes that arrived are not those that were sent")
	}
	if r := s.closeBoth(); r.In != int64(len(up)) || r.Out != int64(len(down)) {
		t.Errorf("result %+v", r)
	}
}

// A flow with a goroutine of its own stops at the next chunk.
func TestABulkStreamIsHandedOver(t *testing.T) {
	s := newScene(t, time.Minute)
	down := random(64 << 20)
	go func() {
		s.backend.Write(down)
		s.backend.CloseWrite()
	}()
	got := make(chan []byte)
	go func() {
		data, _ := s.receive(s.client)
		got <- data
	}()
	for n := 0; n < 5; {
		if !s.relay.down.isMoving() {
			continue
		}
		if state := s.handOver(); state.Client.Sent == observe.CloseFIN {
			t.Fatalf("the stream is over after %d hand-overs", n)
		}
		n++
	}
	if data := <-got; !bytes.Equal(data, down) {
		t.Errorf("%d bytes arrived of %d, or others", len(data), len(down))
	}
	s.client.Close()
	if r := s.end(); r.Reason != observe.OK || r.Out != int64(len(down)) {
		t.Errorf("result %+v", r)
	}
}

// A poller moves a request at that moment: it has read it, and not written it yet.
func TestReleaseWhileAPollerMoves(t *testing.T) {
	s := newScene(t, time.Minute)
	parted := make(chan (<-chan struct{}), 1)
	answers := &interrupted{scene: s, do: func() {
		p, err := s.relay.part()
		if err != nil {
			t.Error(err)
		}
		parted <- p
	}}
	s.relay.mu.Lock()
	s.relay.owner = answers
	s.relay.mu.Unlock()
	s.send(s.backend, []byte("answer"))
	p := <-parted
	s.relay.wakeBoth()
	<-p
	s.get(s.client, 6)
	if in, out := s.relay.Moved(); in != 0 || out != 6 {
		t.Errorf("%d and %d bytes were moved", in, out)
	}
	s.relay.client.conn.Close()
	s.relay.backend.conn.Close()
}

// interrupted does something when the first byte has come, and before it is written.
type interrupted struct {
	*scene
	do func()
}

func (i *interrupted) Answered(took time.Duration) { i.do() }

func TestAHalfClosedConnectionIsHandedOver(t *testing.T) {
	for _, first := range []string{"client", "backend"} {
		t.Run(first, func(t *testing.T) {
			s := newScene(t, time.Minute)
			a, b := s.client, s.backend
			if first == "backend" {
				a, b = b, a
			}
			s.send(a, []byte("request"))
			a.CloseWrite()
			if got, err := s.receive(b); string(got) != "request" || err != nil {
				t.Fatalf("got %q, %v", got, err)
			}
			for range 3 {
				state := s.handOver()
				sides := []Side{state.Client, state.Backend}
				if first == "backend" {
					sides = []Side{state.Backend, state.Client}
				}
				if sides[0].Close != observe.CloseFIN || sides[1].Sent != observe.CloseFIN || sides[0].Sent != observe.CloseNone || sides[1].Close != observe.CloseNone {
					t.Fatalf("state %+v", state)
				}
			}
			s.relay.mu.Lock()
			open := s.relay.open
			s.relay.mu.Unlock()
			if open != 1 {
				t.Errorf("%d flows are open", open)
			}
			s.send(b, []byte("answer"))
			b.Close()
			if got, err := s.receive(a); string(got) != "answer" || err != nil {
				t.Fatalf("got %q, %v", got, err)
			}
			if r := s.end(); r.Reason != observe.OK || r.In+r.Out != 13 || r.Client.Close != observe.CloseFIN || r.Backend.Close != observe.CloseFIN {
				t.Errorf("result %+v", r)
			}
		})
	}
}

func TestTheHalfCloseLimitIsHandedOver(t *testing.T) {
	s := newScene(t, 300*time.Millisecond)
	s.client.CloseWrite()
	if _, err := s.receive(s.backend); err != nil {
		t.Fatal(err)
	}
	s.handOver()
	if r := s.end(); r.Reason != observe.HalfCloseTimeout {
		t.Errorf("result %+v", r)
	}
}

// The successor may need what the client has sent for another backend.
func TestWhatIsHeldIsHandedOver(t *testing.T) {
	for _, size := range []int{0, 100, smallHold, smallHold + 1, HoldLimit} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := newReplays(t, time.Minute)
			request := random(size)
			s.send(s.client, request)
			s.get(s.backend, size)
			if state := s.handOver(); !state.Hold || !bytes.Equal(state.Held, request) || state.In != int64(size) {
				t.Fatalf("%d bytes are held, %d were sent", len(state.Held), state.In)
			}
			for range 2 {
				reset(s.backend)
				s.wantEarly(observe.CloseRST)
				if _, err := s.succeed(); err != ErrNotNow {
					t.Errorf("a relay that looks for a backend was released: %v", err)
				}
				s.replay()
				if got := s.get(s.backend, size); !bytes.Equal(got, request) {
					t.Error("the backend got other bytes than the client has sent")
				}
				s.handOver()
			}
			if r := s.answerAndEnd(); r.Reason != observe.OK || r.In != int64(size) || r.Out != 6 {
				t.Errorf("result %+v", r)
			}
		})
	}
}

// A request that a backend does not read is held, and what was not sent yet goes on.
func TestWhatIsHeldAndStuckIsHandedOver(t *testing.T) {
	s := &replays{newSceneOver(t, narrowPair, settings(time.Minute, true))}
	request := random(HoldLimit)
	go s.client.Write(request)
	untilStuck(t, &s.relay.up)
	for range 3 {
		if state := s.handOver(); int(state.In) >= len(state.Held) {
			t.Fatalf("%d bytes are held, %d were sent", len(state.Held), state.In)
		}
	}
	if got := s.get(s.backend, len(request)); !bytes.Equal(got, request) {
		t.Error("the backend got other bytes than the client has sent")
	}
	if r := s.answerAndEnd(); r.In != int64(len(request)) {
		t.Errorf("result %+v", r)
	}
}

func TestOnlyOneReleases(t *testing.T) {
	s := newScene(t, time.Minute)
	outcomes := make(chan Released, 8)
	for range cap(outcomes) {
		go func() {
			var r Released
			r.Client, r.Backend, r.State, r.Err = s.relay.Release()
			outcomes <- r
		}()
	}
	n := 0
	for range cap(outcomes) {
		switch r := <-outcomes; r.Err {
		case nil:
			n++
			defer r.Client.Close()
			defer r.Backend.Close()
		case ErrEnding:
		default:
			t.Error(r.Err)
		}
	}
	if n != 1 {
		t.Errorf("%d have the connections", n)
	}
	if _, _, _, err := s.relay.Release(); err != ErrEnding {
		t.Errorf("a released relay was released again: %v", err)
	}
	s.relay.Abort(observe.Shutdown) // too late, and harmless
	if len(s.result) > 0 {
		t.Errorf("the owner of a released relay heard of %+v", <-s.result)
	}
}

// Each relay of a list is released or not, as if it were alone.
func TestReleaseAll(t *testing.T) {
	idle, stalled, ended, early := newScene(t, time.Minute), newScene(t, time.Minute), newScene(t, time.Minute), newReplays(t, time.Minute)
	go flood(stalled.client)
	untilStuck(t, &stalled.relay.up)
	ended.closeBoth()
	reset(early.backend)
	early.wantEarly(observe.CloseRST)

	scenes := []*scene{idle, stalled, ended, early.scene}
	var list []*Relay
	for _, s := range scenes {
		list = append(list, s.relay)
	}
	all := ReleaseAll(list)
	for i, want := range []error{nil, nil, ErrEnding, ErrNotNow} {
		if r := all[i]; r.Err != want || (r.Client != nil) != (want == nil) || (r.Backend != nil) != (want == nil) {
			t.Errorf("relay %d: %+v, want %v", i, r, want)
		}
	}
	if n, _ := left(all[1].State.ToBackend, all[1].State.PipeToBackend); n == 0 {
		t.Error("nothing was stuck")
	}
	for i, s := range scenes[:2] {
		var err error
		if s.relay, err = Resume(all[i].Client, all[i].Backend, all[i].State, s.relay.settings(), s); err != nil {
			t.Fatal(err)
		}
		s.relay.Start()
	}
	idle.send(idle.client, []byte("request"))
	idle.get(idle.backend, 7)
	idle.closeBoth()
	early.replay()
	early.answerAndEnd()
	stalled.relay.Abort(observe.Shutdown)
	stalled.end()
}

func TestNoReleaseAfterTheEnd(t *testing.T) {
	s := newScene(t, time.Minute)
	s.closeBoth()
	if _, _, _, err := s.relay.Release(); err != ErrEnding {
		t.Errorf("released: %v", err)
	}
}

// An Abort that comes while Release waits for the flows.
func TestAbortDuringRelease(t *testing.T) {
	s := newScene(t, time.Minute)
	parted, err := s.relay.part()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.relay.part(); err != ErrEnding {
		t.Errorf("a second Release began: %v", err)
	}
	s.relay.Abort(observe.Shutdown)
	<-parted
	if r := s.end(); r.Reason != observe.Shutdown {
		t.Errorf("result %+v", r)
	}
}

// An Abort that comes before Release sees that the flows have ended is too late: whoever
// has called Release has the connections.
func TestAbortAfterTheFlowsHaveParted(t *testing.T) {
	s := newScene(t, time.Minute)
	parted, err := s.relay.part()
	if err != nil {
		t.Fatal(err)
	}
	s.relay.wakeBoth()
	<-parted
	s.relay.Abort(observe.Shutdown)
	if s.relay.reason != "" || !s.relay.leaving {
		t.Error("nobody has the connections now")
	}
	s.relay.client.conn.Close()
	s.relay.backend.conn.Close()
}

// A reset while Release waits for the flows: what came before it is still delivered.
func TestResetDuringRelease(t *testing.T) {
	s := newScene(t, time.Minute)
	go flood(s.client)
	untilStuck(t, &s.relay.up)
	parted, err := s.relay.part()
	if err != nil {
		t.Fatal(err)
	}
	reset(s.client)
	client, backend, state, err := s.relay.collect(parted)
	if err != nil || state.Reason != observe.ClientReset || state.Errno != syscall.ECONNRESET {
		t.Fatalf("released with %q (%v), %v", state.Reason, state.Errno, err)
	}
	s.resume(client, backend, state)
	s.wantAllBeforeTheReset(observe.ClientReset)
}

func (s *scene) resume(client, backend *tcp.Conn, state State) {
	s.t.Helper()
	var err error
	if s.relay, err = Resume(another(client), another(backend), state, s.relay.settings(), s); err != nil {
		s.t.Fatal(err)
	}
	s.relay.Start()
}

// wantAllBeforeTheReset has the other side read now: it gets what the record tells of, and
// then the reset.
func (s *scene) wantAllBeforeTheReset(reason observe.Reason) {
	s.t.Helper()
	reader, moved := s.backend, func(r Result) int64 { return r.In }
	if reason == observe.BackendReset {
		reader, moved = s.client, func(r Result) int64 { return r.Out }
	}
	got, err := s.receive(reader)
	if !errors.Is(err, syscall.ECONNRESET) {
		s.t.Errorf("who reads got %v, want a reset", err)
	}
	r := s.end()
	if r.Reason != reason || !errors.Is(r.Errno, syscall.ECONNRESET) || len(got) == 0 || moved(r) != int64(len(got)) {
		s.t.Errorf("who reads got %d bytes, the result is %+v", len(got), r)
	}
}

// A side that has failed goes along as long as what it sent before has not arrived.
func TestAResetIsHandedOver(t *testing.T) {
	const hops = 3
	handOvers := func(s *scene, reason observe.Reason, when ...func(*scene)) {
		for range hops {
			for _, wait := range when {
				wait(s)
			}
			if state := s.handOver(); state.Reason != reason || state.Errno != syscall.ECONNRESET {
				s.t.Fatalf("it was handed over with %q (%v)", state.Reason, state.Errno)
			}
		}
	}
	failed := func(s *scene) { // the poller has seen it
		eventually(s.t, "it has failed", func() error {
			s.relay.mu.Lock()
			defer s.relay.mu.Unlock()
			if s.relay.reason == "" {
				return errors.New("it has not")
			}
			return nil
		})
	}
	closesSlowly := func(s *scene) { // it only waits for what the kernel has
		eventually(s.t, "both flows have ended", func() error {
			s.relay.mu.Lock()
			defer s.relay.mu.Unlock()
			if s.relay.open > 0 || s.relay.aborted == nil {
				return errors.New("they have not")
			}
			return nil
		})
	}
	sides := map[observe.Reason]func(*scene) (*net.TCPConn, *flow){
		observe.ClientReset:  func(s *scene) (*net.TCPConn, *flow) { return s.client, &s.relay.up },
		observe.BackendReset: func(s *scene) (*net.TCPConn, *flow) { return s.backend, &s.relay.down },
	}
	for reason, side := range sides {
		for name, pipes := range map[string]int{"buffer": limit.Pipes, "pipe": 0} {
			t.Run(fmt.Sprintf("%s, with more to write, in a %s", reason, name), func(t *testing.T) {
				usePipes(pipes)
				defer usePipes(-pipes)
				s := newScene(t, time.Minute)
				from, flow := side(s)
				go flood(from)
				untilStuck(t, flow)
				reset(from)
				failed(s)
				handOvers(s, reason)
				s.wantAllBeforeTheReset(reason)
			})
		}
	}
	t.Run("an endpoint's, of whose client there is more to write", func(t *testing.T) {
		s := newScene(t, time.Minute)
		go flood(s.client)
		untilStuck(t, &s.relay.up)
		go flood(s.backend)
		untilStuck(t, &s.relay.down)
		reset(s.backend)
		failed(s)
		handOvers(s, observe.BackendReset)
		s.client.CloseWrite()
		got, err := s.receive(s.client)
		r := s.end()
		if !errors.Is(err, syscall.ECONNRESET) || r.Reason != observe.BackendReset || r.Out != int64(len(got)) || r.Sockets.UnsentBackend == 0 {
			t.Errorf("the client got %d bytes, %v, the result is %+v %+v", len(got), err, r, r.Sockets)
		}
	})
	t.Run("an endpoint's, with the rest in the kernel", func(t *testing.T) {
		s := newSceneOver(t, func(t *testing.T) (dialled, accepted *net.TCPConn) {
			dialled, accepted = narrowPair(t)
			accepted.SetWriteBuffer(1 << 20)
			return dialled, accepted
		}, settings(time.Minute, false))
		sent := random(300_000)
		s.send(s.backend, sent)
		waitSent(look(s.backend), patience, nil)
		reset(s.backend)
		failed(s)
		handOvers(s, observe.BackendReset, closesSlowly)
		closesSlowly(s)
		client, backend, state, err := s.relay.Release()
		if err != nil || client.Unsent() == 0 {
			t.Fatalf("%v, or nothing is left in the kernel", err)
		}
		s.resume(client, backend, state)
		s.wantAllBeforeTheReset(observe.BackendReset)
	})
	t.Run("a client's, with more to be held", func(t *testing.T) {
		s := newSceneOver(t, narrowPair, settings(time.Minute, true))
		sent := random(HoldLimit)
		s.send(s.client, sent)
		waitSent(look(s.client), patience, nil)
		reset(s.client)
		failed(s)
		handOvers(s, observe.ClientReset)
		s.wantAllBeforeTheReset(observe.ClientReset)
	})
}

// A limit that is over while Release waits comes too late.
func TestTimeoutDuringRelease(t *testing.T) {
	s := newScene(t, time.Minute)
	s.client.CloseWrite()
	if _, err := s.receive(s.backend); err != nil {
		t.Fatal(err)
	}
	parted, err := s.relay.part()
	if err != nil {
		t.Fatal(err)
	}
	s.relay.mu.Lock()
	s.relay.since = 1
	s.relay.mu.Unlock()
	s.relay.look()
	s.relay.wakeBoth()
	<-parted
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	if s.relay.reason != "" {
		t.Errorf("it has ended with %s", s.relay.reason)
	}
	s.relay.client.conn.Close()
	s.relay.backend.conn.Close()
}

func TestStatesThatNoRelayIsIn(t *testing.T) {
	fin, rst := Side{Sent: observe.CloseFIN}, Side{Close: observe.CloseRST}
	for name, s := range map[string]State{
		"both ended":           {Client: fin, Backend: fin},
		"after a FIN":          {Backend: fin, ToBackend: []byte("x")},
		"after the other FIN":  {Client: fin, ToClient: []byte("x")},
		"a reset":              {Client: rst},
		"a pipe and more":      {ToClient: []byte("x"), PipeToClient: &Pipe{R: 100, W: 101, Bytes: 1}},
		"an empty pipe":        {PipeToBackend: &Pipe{R: 100, W: 101}},
		"a pipe of one end":    {PipeToBackend: &Pipe{R: 100, W: -1, Bytes: 1}},
		"a pipe after a FIN":   {Backend: fin, PipeToBackend: &Pipe{R: 100, W: 101, Bytes: 1}},
		"a failure by nobody":  {Reason: observe.ClientReset},
		"two that failed":      {Reason: observe.ClientReset, Errno: syscall.ECONNRESET, Client: rst, Backend: rst},
		"failed and held":      {Reason: observe.ClientReset, Errno: syscall.ECONNRESET, Client: rst, Hold: true},
		"an unknown end":       {Reason: observe.ClientReset, Errno: syscall.ECONNRESET, Client: Side{Close: 77}},
		"a way to end":         {Client: Side{Sent: 77}},
		"negative":             {Out: -1},
		"too much held":        {Hold: true, Held: make([]byte, HoldLimit+1)},
		"more sent than held":  {Hold: true, Held: []byte("x"), In: 2},
		"held and an answer":   {Hold: true, ToClient: []byte("x")},
		"held without holding": {Held: []byte("x")},
	} {
		if _, err := Resume(tcp.New(-1, nil), tcp.New(-1, nil), s, settings(0, false), nil); err == nil {
			t.Errorf("%s: it was resumed", name)
		}
	}
}

func TestAStateSurvivesJSON(t *testing.T) {
	at := time.Now().Round(0) // without the monotonic clock
	s := State{
		Started: at, Hold: true, Began: at, In: 1, Out: 2,
		Client:    Side{First: at, Close: observe.CloseFIN, At: at},
		Backend:   Side{Sent: observe.CloseFIN},
		ToBackend: []byte{0, 255}, ToClient: []byte("x"), Held: []byte("y"),
		Reason: observe.BackendGone, Errno: syscall.ETIMEDOUT, PipeToBackend: &Pipe{R: 1, W: 2, Bytes: 3}, PipeToClient: &Pipe{R: 4, W: 5, Bytes: 6},
	}
	written, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var read State
	if err := json.Unmarshal(written, &read); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(read); !bytes.Equal(again, written) {
		t.Errorf("%s became %s", written, again)
	}
	if s := reflect.ValueOf(s); s.NumField() != 14 {
		t.Error("there is another field: does it survive?")
	}
}

// There are many, and most are idle.
func TestTheSizeOfARelay(t *testing.T) {
	if size := unsafe.Sizeof(Relay{}); size > 352 { // a size class of the allocator
		t.Errorf("a relay has %d bytes", size)
	}
}

// journey is a connection that was drawn at random, and changes hands again and again.
type journey struct {
	up, down     []byte
	small        bool // what the sockets take
	hold         bool
	lazy, stingy time.Duration // at most so long one end waits between reads, and writes
	hops         int
}

func drawJourney(r *rand.Rand) journey {
	sizes := []int{1, 1000, 70_000, 400_000, 3 << 20}
	some := func() []byte { return random(1 + r.IntN(sizes[r.IntN(len(sizes))])) }
	j := journey{up: some(), down: some(), small: r.IntN(2) == 0, hold: r.IntN(2) == 0}
	if j.small {
		j.up, j.down = j.up[:min(len(j.up), 200_000)], j.down[:min(len(j.down), 200_000)]
	}
	pauses := []time.Duration{0, 0, 100 * time.Microsecond}
	j.lazy, j.stingy = pauses[r.IntN(len(pauses))], pauses[r.IntN(len(pauses))]
	return j
}

func (j *journey) String() string {
	return fmt.Sprintf("%d bytes up, %d down, small=%t, hold=%t, lazy=%v, stingy=%v, %d hops", len(j.up), len(j.down), j.small, j.hold, j.lazy, j.stingy, j.hops)
}

// travel sends all bytes both ways, and has the relay change hands meanwhile.
func (j *journey) travel(t *testing.T, r *rand.Rand) error {
	over := pair
	if j.small {
		over = narrowPair
	}
	s := newSceneOver(t, over, settings(time.Minute, j.hold))
	first, second := r.Uint64(), r.Uint64()
	var atClient, atBackend []byte
	var peers sync.WaitGroup
	peers.Go(func() { j.talk(s.client, j.up, first) })
	peers.Go(func() { j.talk(s.backend, j.down, second) })
	peers.Go(func() { atClient = j.listen(s.client, first+1) })
	peers.Go(func() { atBackend = j.listen(s.backend, second+1) })
	for {
		_, err := s.succeed()
		if err == ErrEnding {
			break
		}
		if err != nil {
			return err
		}
		j.hops++
		s.relay.Start()
		if wait := r.IntN(400); wait > 100 {
			time.Sleep(time.Duration(wait) * time.Microsecond)
		}
	}
	peers.Wait()
	if !bytes.Equal(atBackend, j.up) || !bytes.Equal(atClient, j.down) {
		return fmt.Errorf("%d and %d bytes arrived, or others than were sent", len(atBackend), len(atClient))
	}
	res := s.end()
	if res.Reason != observe.OK || res.In != int64(len(j.up)) || res.Out != int64(len(j.down)) ||
		res.Client.Close != observe.CloseFIN || res.Backend.Close != observe.CloseFIN || res.Client.First.IsZero() || res.Backend.First.IsZero() {
		return fmt.Errorf("result %+v", res)
	}
	if len(s.took) != 1 {
		return fmt.Errorf("Answered was called %d times", len(s.took))
	}
	return nil
}

func (j *journey) talk(c *net.TCPConn, data []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	c.SetWriteDeadline(time.Now().Add(patience))
	for len(data) > 0 {
		n := min(1+r.IntN(1+len(data)/4), len(data))
		c.Write(data[:n])
		data = data[n:]
		rest(r, j.stingy)
	}
	c.CloseWrite()
}

func (j *journey) listen(c *net.TCPConn, seed uint64) (got []byte) {
	r := rand.New(rand.NewPCG(seed, 0))
	c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 100_000)
	for {
		n, err := c.Read(buf[:1+r.IntN(len(buf)-1)])
		got = append(got, buf[:n]...)
		if err != nil {
			if err != io.EOF {
				got = nil // whatever came, this is not its end
			}
			return got
		}
		rest(r, j.lazy)
	}
}

func rest(r *rand.Rand, most time.Duration) {
	if most > 0 && r.IntN(4) == 0 {
		time.Sleep(time.Duration(r.Int64N(int64(most))))
	}
}

// No byte is lost, repeated or put elsewhere, however often a connection changes hands.
func TestHandOversAtRandomMoments(t *testing.T) {
	const journeys, workers = 240, 4
	seed := rand.Uint64()
	var hops atomic.Int64
	t.Run("journeys", func(t *testing.T) {
		for w := range workers {
			t.Run(fmt.Sprint(w), func(t *testing.T) {
				t.Parallel()
				for i := w; i < journeys; i += workers {
					r := rand.New(rand.NewPCG(seed, uint64(i)))
					j := drawJourney(r)
					if err := j.travel(t, r); err != nil {
						t.Fatalf("seed %d, journey %d: %v\n%v", seed, i, err, &j)
					}
					hops.Add(int64(j.hops))
				}
			})
		}
	})
	if n := hops.Load(); n < journeys {
		t.Errorf("%d connections have changed hands only %d times", journeys, n)
	} else {
		t.Logf("%d connections have changed hands %d times", journeys, n)
	}
}

// What a backend sent before its reset arrives, also when the relay changes hands then.
func TestHandOversBeforeAReset(t *testing.T) {
	for i := range 100 {
		s := newScene(t, time.Minute)
		sent := random(1 + rand.IntN(300_000))
		go func(backend *net.TCPConn) {
			backend.Write(sent)
			waitSent(look(backend), patience, nil)
			reset(backend)
		}(s.backend)
		got := make(chan error, 1)
		go func(client *net.TCPConn) {
			client.SetReadDeadline(time.Now().Add(patience))
			data, err := io.ReadAll(client)
			switch {
			case !errors.Is(err, syscall.ECONNRESET):
				got <- fmt.Errorf("the client got %v, want a reset", err)
			case !bytes.Equal(data, sent):
				got <- fmt.Errorf("the client got %d bytes of %d", len(data), len(sent))
			default:
				got <- nil
			}
		}(s.client)
		for {
			if _, err := s.succeed(); err == ErrEnding {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			s.relay.Start()
		}
		if err := <-got; err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if r := s.end(); r.Reason != observe.BackendReset || r.Out != int64(len(sent)) {
			t.Fatalf("connection %d: result %+v", i, r)
		}
	}
}
