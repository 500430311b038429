package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// replays is a scene in which a backend that ends early can be followed by
// another one. The embedded scene's backend is the present one.
type replays struct{ *scene }

func newReplays(t *testing.T, halfClose time.Duration, change ...func(*Relay)) *replays {
	return &replays{newSceneWith(t, settings(halfClose, true), change...)}
}

func (s *replays) awaited() *EarlyEnd {
	s.t.Helper()
	select {
	case e := <-s.early:
		return e
	case <-time.After(patience):
		s.t.Fatal("the backend does not end early")
		return nil
	}
}

// wantAnswered waits until there is no replay any more, and expects that none was asked
// for.
func (s *replays) wantAnswered() {
	s.t.Helper()
	eventually(s.t, "nothing is held any more", func() error {
		if s.relay.holding.Load() {
			return errors.New("it is")
		}
		return nil
	})
	if len(s.early) > 0 {
		s.t.Fatalf("EndedEarly was told %q", <-s.early)
	}
}

func (s *replays) wantEarly(how observe.Close) {
	s.t.Helper()
	early := s.awaited()
	if early.Close != how {
		s.t.Fatalf("EndedEarly was told %v, want an early end by %s", early, how)
	}
	if isReset := errors.Is(early, syscall.ECONNRESET); isReset != (how == observe.CloseRST) {
		s.t.Errorf("errno %v of an end by %s", early.Errno, how)
	}
}

// replay puts another backend in the place of the one that ended.
func (s *replays) replay() {
	s.t.Helper()
	backend, theirs := pair(s.t)
	s.backend = backend
	s.relay.Replay(adopt(s.t, theirs))
}

func (s *replays) giveUp() { s.relay.GiveUp() }

// leave is how a backend ends before it has sent anything.
var leave = map[observe.Close]func(*net.TCPConn){
	observe.CloseRST: reset,
	observe.CloseFIN: func(c *net.TCPConn) { c.Close() },
}

func both(t *testing.T, f func(t *testing.T, how observe.Close, leave func(*net.TCPConn))) {
	for how, leave := range leave {
		t.Run(string(how), func(t *testing.T) { f(t, how, leave) })
	}
}

// answerAndEnd has the backend answer, and both peers close.
func (s *replays) answerAndEnd() Result {
	s.t.Helper()
	s.send(s.backend, []byte("answer"))
	s.get(s.client, 6)
	s.client.CloseWrite()
	if rest, err := s.receive(s.backend); len(rest) > 0 || err != nil {
		s.t.Errorf("the backend got %d bytes too many, %v", len(rest), err)
	}
	s.backend.Close()
	if rest, err := s.receive(s.client); len(rest) > 0 || err != nil {
		s.t.Errorf("the client got %d bytes too many, %v", len(rest), err)
	}
	return s.end()
}

// A process that is killed while it works on a request.
func TestReplayOfARequest(t *testing.T) {
	both(t, func(t *testing.T, how observe.Close, leave func(*net.TCPConn)) {
		s := newReplays(t, time.Minute)
		request := random(HoldLimit) // as much as can be held
		s.send(s.client, request)
		for range 3 {
			if got := s.get(s.backend, len(request)); !bytes.Equal(got, request) {
				t.Error("a backend got other bytes than the client has sent")
			}
			leave(s.backend)
			s.wantEarly(how)
			s.replay()
		}
		if got := s.get(s.backend, len(request)); !bytes.Equal(got, request) {
			t.Error("the last backend got other bytes than the client has sent")
		}
		r := s.answerAndEnd()
		s.wantAnswered()
		if r.Reason != observe.OK || r.Errno != nil || r.In != int64(len(request)) || r.Out != 6 {
			t.Errorf("result %+v", r)
		}
		if r.Backend.First.IsZero() || r.Client.First.IsZero() || r.Backend.Close != observe.CloseFIN {
			t.Errorf("the result is not that of the last backend: %+v", r)
		}
	})
}

// A crash loop: the port listens for a moment, and whoever connects is dropped.
func TestReplayAfterAnEndBeforeTheRequest(t *testing.T) {
	both(t, func(t *testing.T, how observe.Close, leave func(*net.TCPConn)) {
		s := newReplays(t, time.Minute)
		leave(s.backend)
		s.wantEarly(how)
		s.send(s.client, []byte("request"))
		s.replay()
		if got := s.get(s.backend, 7); string(got) != "request" {
			t.Errorf("the backend got %q", got)
		}
		if r := s.answerAndEnd(); r.Reason != observe.OK || r.In != 7 {
			t.Errorf("result %+v", r)
		}
	})
}

// In some protocols the server speaks first: nothing is to be sent again.
func TestReplayWhenTheClientHasSentNothing(t *testing.T) {
	both(t, func(t *testing.T, how observe.Close, leave func(*net.TCPConn)) {
		s := newReplays(t, time.Minute)
		leave(s.backend)
		s.wantEarly(how)
		s.replay()
		s.send(s.backend, []byte("hello"))
		s.get(s.client, 5)
		s.wantAnswered()
		s.send(s.client, []byte("thanks"))
		s.get(s.backend, 6)
		if r := s.answerAndEnd(); r.Reason != observe.OK || r.In != 6 || r.Out != 11 {
			t.Errorf("result %+v", r)
		}
		if len(s.took) != 1 {
			t.Errorf("Answered was told %d times", len(s.took))
		}
	})
}

// A backend ends connections that nobody uses. Where one is reset, something is wrong.
func TestABackendThatDoesNotWaitForARequest(t *testing.T) {
	s := newReplays(t, time.Minute, func(r *Relay) { r.clock = clockWith(timeouts{stalled: usual.stalled}) })
	s.backend.CloseWrite()
	s.wantAnswered()
	if _, err := s.receive(s.client); err != nil {
		t.Errorf("the client got %v, want a FIN", err)
	}
	s.client.Close()
	if r := s.end(); r.Reason != observe.OK || r.Backend.Close != observe.CloseFIN {
		t.Errorf("result %+v", r)
	}

	s = newReplays(t, time.Minute, func(r *Relay) { r.clock = clockWith(timeouts{stalled: usual.stalled}) })
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	s.replay()
	s.answerAndEnd()

	s = newReplays(t, time.Minute, func(r *Relay) { r.clock = clockWith(timeouts{stalled: usual.stalled}) })
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	s.backend.Close()
	s.wantEarly(observe.CloseFIN)
	s.replay()
	s.get(s.backend, 7)
	s.answerAndEnd()
}

// A backend that has closed its side only is told that nobody listens any more.
func TestReplayResetsTheBackendThatEnded(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	s.backend.CloseWrite()
	s.wantEarly(observe.CloseFIN)
	first := s.backend
	s.replay()
	if _, err := s.receive(first); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it got %v, want a reset", err)
	}
	s.get(s.backend, 7)
	s.answerAndEnd()
}

func TestTheFirstByteOfARequestThatComesInParts(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("1"))
	s.get(s.backend, 1)
	first := time.Now()
	s.send(s.client, []byte("2"))
	s.get(s.backend, 1)
	if r := s.answerAndEnd(); r.Client.First.After(first) {
		t.Errorf("it came before %v, the result says %v", first, r.Client.First)
	}
}

// What the backend takes for its answer begins when it gets the request, and not
// when another one did.
func TestFirstByteAfterAReplay(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	const dialling = 50 * time.Millisecond
	time.Sleep(dialling)
	again := time.Now()
	s.replay()
	s.send(s.backend, []byte("answer"))
	s.get(s.client, 6)
	if d, most := <-s.took, time.Since(again); d > most {
		t.Errorf("Answered was told %v of a backend that had %v", d, most)
	}
	s.backend.Close()
	s.client.Close()
	s.end()
}

// The client's FIN reaches every backend.
func TestReplayOfAFIN(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.client.CloseWrite()
	if got, err := s.receive(s.backend); string(got) != "request" || err != nil {
		t.Fatalf("the first backend got %q, %v", got, err)
	}
	closed := time.Now()
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	s.replay()
	if got, err := s.receive(s.backend); string(got) != "request" || err != nil {
		t.Errorf("the next backend got %q, %v", got, err)
	}
	s.send(s.backend, []byte("answer"))
	s.backend.Close()
	if got, err := s.receive(s.client); string(got) != "answer" || err != nil {
		t.Errorf("the client got %q, %v", got, err)
	}
	r := s.end()
	if r.Reason != observe.OK || r.In != 7 || r.Client.Close != observe.CloseFIN || r.Client.At.After(closed) {
		t.Errorf("the client closed once, before %v; result %+v", closed, r)
	}
}

// A FIN after the client's FIN says that there is nothing to say.
func TestAnEmptyAnswerIsAnAnswer(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.client.CloseWrite()
	s.receive(s.backend)
	s.backend.Close()
	s.wantAnswered()
	if got, err := s.receive(s.client); len(got) > 0 || err != nil {
		t.Errorf("the client got %q, %v", got, err)
	}
	if r := s.end(); r.Reason != observe.OK || r.In != 7 || !r.Backend.First.IsZero() || r.Backend.Close != observe.CloseFIN {
		t.Errorf("result %+v", r)
	}
}

// Whatever the backend has sent before its end is an answer: it must arrive, and
// nothing may be sent again.
func TestAnAnswerAndAReset(t *testing.T) {
	for range 200 {
		s := newReplays(t, time.Minute)
		s.send(s.client, random(HoldLimit/2))
		s.send(s.backend, []byte("no"))
		waitSent(look(s.backend), patience, nil)
		reset(s.backend) // with some of the request unread
		s.wantAnswered()
		got, err := s.receive(s.client)
		if string(got) != "no" || !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the client got %q, %v; want the answer and a reset", got, err)
		}
		if r := s.end(); r.Reason != observe.BackendReset || r.Out != 2 {
			t.Fatalf("result %+v", r)
		}
	}
}

func TestClientResetsBeforeTheAnswer(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	reset(s.client)
	s.wantAnswered()
	if _, err := s.receive(s.backend); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the backend got %v, want a reset", err)
	}
	if r := s.end(); r.Reason != observe.ClientReset || r.In != 7 || r.Client.Close != observe.CloseRST || r.Backend.Sent != observe.CloseRST {
		t.Errorf("result %+v", r)
	}
}

// Nobody waits for an answer any more: the request is not sent again.
func TestClientResetsBetweenTwoBackends(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	reset(s.client)
	eventually(t, "the reset has arrived", func() error {
		if !s.relay.client.conn.Closed() {
			return errors.New("no")
		}
		return nil
	})
	s.replay()
	s.wantAnswered()
	if got, err := s.receive(s.backend); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the next backend got %q, %v", got, err)
	}
	if r := s.end(); r.Reason != observe.ClientReset || r.In != 0 {
		t.Errorf("result %+v", r)
	}
}

// A reset that was found by sending must end the connection also when the answer
// before it finds nobody to read it.
func TestAnAnswerAndAResetAndAStalledClient(t *testing.T) {
	s := newReplays(t, time.Minute, func(r *Relay) {
		r.clock = clockWith(timeouts{100 * time.Millisecond, usual.prompt})
		clog(r.client.conn)
	})
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	s.send(s.backend, []byte("no"))
	waitSent(look(s.backend), patience, nil)
	reset(s.backend)
	s.wantAnswered()
	if r := s.end(); r.Reason != observe.BackendReset {
		t.Errorf("result %+v", r)
	}
}

// More than can be held goes to one backend only.
func TestNoReplayOfMoreThanTheLimit(t *testing.T) {
	both(t, func(t *testing.T, how observe.Close, leave func(*net.TCPConn)) {
		s := newReplays(t, time.Minute)
		body := random(1 << 20)
		go s.client.Write(body)
		if got := s.get(s.backend, len(body)); !bytes.Equal(got, body) {
			t.Error("the backend got other bytes than the client has sent")
		}
		leave(s.backend)
		s.wantAnswered()
		_, err := s.receive(s.client)
		if isReset := errors.Is(err, syscall.ECONNRESET); isReset != (how == observe.CloseRST) {
			t.Errorf("the client got %v, the backend has ended by %s", err, how)
		}
		s.client.Close()
		want := map[observe.Close]observe.Reason{observe.CloseRST: observe.BackendReset, observe.CloseFIN: observe.OK}[how]
		if r := s.end(); r.Reason != want || r.In != int64(len(body)) {
			t.Errorf("result %+v", r)
		}
	})
}

// One byte more than is held ends the holding, and not one byte earlier.
func TestTheLimitIsExact(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, random(HoldLimit))
	s.get(s.backend, HoldLimit)
	if n := s.held(); n != HoldLimit {
		t.Errorf("%d bytes are held, want %d", n, HoldLimit)
	}
	s.send(s.client, []byte("!"))
	s.get(s.backend, 1)
	if n := s.held(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
	reset(s.backend)
	s.wantAnswered()
	s.receive(s.client)
	if r := s.end(); r.Reason != observe.BackendReset || r.In != HoldLimit+1 {
		t.Errorf("result %+v", r)
	}
}

// held is how many bytes the relay has buffered.
func (s *replays) held() int {
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	if s.relay.hold == nil {
		return 0
	}
	return len(s.relay.hold.data)
}

func (s *replays) buffered() bool {
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	return s.relay.hold != nil && s.relay.hold.data != nil
}

// A long body each way, the first of whose bytes were sent to a backend before.
func TestReplayAndALongBody(t *testing.T) {
	s := newReplays(t, time.Minute)
	up, down := random(1<<20), random(3<<20)
	const early = 50_000
	s.send(s.client, up[:early])
	s.get(s.backend, early/2)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	s.replay()
	go func() {
		s.client.Write(up[early:])
		s.client.CloseWrite()
	}()
	backend := s.backend
	atBackend := make(chan []byte, 1)
	go func() {
		backend.SetReadDeadline(time.Now().Add(patience))
		got := make([]byte, len(up))
		n, _ := io.ReadFull(backend, got[:len(up)/2])
		backend.Write(down)
		rest, _ := io.ReadAll(backend)
		backend.Close()
		atBackend <- append(got[:n], rest...)
	}()
	if got, err := s.receive(s.client); !bytes.Equal(got, down) || err != nil {
		t.Errorf("the client got %d bytes of %d, %v", len(got), len(down), err)
	}
	if !bytes.Equal(<-atBackend, up) {
		t.Error("the backend got other bytes than the client has sent")
	}
	if r := s.end(); r.Reason != observe.OK || r.In != int64(len(up)) || r.Out != int64(len(down)) {
		t.Errorf("result %+v", r)
	}
}

// clogged is a scene whose relay is blocked while it sends to the backend, which
// has not read what it was sent before, a header of some MiB.
type clogged struct {
	*replays
	fd     int // of the relay's connection to the backend
	header int
	sent   []byte // by the client
}

func newClogged(t *testing.T, change ...func(*Relay)) clogged {
	fd, header := 0, 0
	s := newReplays(t, time.Minute, append(change, func(r *Relay) { fd, header = r.backend.conn.FD(), clog(r.backend.conn) })...)
	sent := random(1 << 20)
	go s.client.Write(sent)
	eventually(t, "the relay is blocked", func() error {
		if !s.sending() {
			return errors.New("it is not")
		}
		return nil
	})
	return clogged{s, fd, header, sent}
}

// clog writes until not one byte more fits, and returns how much that was.
func clog(c *tcp.Conn) (n int) {
	chunk := make([]byte, 64<<10)
	for last := time.Now(); time.Since(last) < 50*time.Millisecond; {
		wrote, _ := c.Write(chunk)
		if n += wrote; wrote > 0 {
			last = time.Now()
		}
	}
	sendBuffer(c.FD(), 1)
	return n
}

func sendBuffer(fd, size int) {
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
}

// unclog has the backend read on.
func (s clogged) unclog() {
	s.get(s.backend, s.header)
	sendBuffer(s.fd, 1<<20)
}

// sending tells whether the relay is in the middle of sending what it holds.
func (s *replays) sending() bool {
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	return s.relay.hold != nil && s.relay.up.state.Load() == stuck
}

// A backend that reads nothing makes the client wait, as without replay, and
// what it was sent so far can still be sent again.
func TestReplayAfterABackendThatReadsNothing(t *testing.T) {
	both(t, func(t *testing.T, how observe.Close, leave func(*net.TCPConn)) {
		s := newClogged(t)
		if how == observe.CloseFIN {
			s.backend.CloseWrite() // with a full Close the kernel sends a reset: bytes were not read
		} else {
			leave(s.backend)
		}
		s.wantEarly(how)
		s.replay()
		if got := s.get(s.backend, len(s.sent)); !bytes.Equal(got, s.sent) {
			t.Error("the next backend got other bytes than the client has sent")
		}
		if r := s.answerAndEnd(); r.Reason != observe.OK || r.In != int64(len(s.sent)) {
			t.Errorf("result %+v", r)
		}
	})
}

// A backend may answer before it reads: what is held is still sent.
func TestAnswerBeforeTheRequestIsRead(t *testing.T) {
	s := newClogged(t)
	s.send(s.backend, []byte("go on"))
	s.get(s.client, 5)
	s.wantAnswered()
	s.unclog()
	if got := s.get(s.backend, len(s.sent)); !bytes.Equal(got, s.sent) {
		t.Error("the backend got other bytes than the client has sent")
	}
	if n := s.held(); n > 0 {
		t.Errorf("%d bytes are held after the answer", n)
	}
	if r := s.answerAndEnd(); r.Reason != observe.OK || r.In != int64(len(s.sent)) {
		t.Errorf("result %+v", r)
	}
}

// The buffer is for others as soon as there is an answer, also while the client
// says nothing more.
func TestNothingIsHeldAfterTheAnswer(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	if s.held() != 7 {
		t.Errorf("%d bytes are held before the answer", s.held())
	}
	s.send(s.backend, []byte("."))
	s.get(s.client, 1)
	s.wantAnswered()
	eventually(t, "the buffer is for others", func() error {
		if s.buffered() {
			return errors.New("it is still held")
		}
		return nil
	})
	s.answerAndEnd()
}

// Without another endpoint the client gets what it gets without replay.
func TestGivingUpIsAsWithoutReplay(t *testing.T) {
	both(t, func(t *testing.T, how observe.Close, leave func(*net.TCPConn)) {
		story := func(s *scene, early func()) Result {
			s.send(s.client, []byte("request"))
			s.get(s.backend, 7)
			leave(s.backend)
			early()
			_, err := s.receive(s.client)
			if isReset := errors.Is(err, syscall.ECONNRESET); isReset != (how == observe.CloseRST) {
				t.Errorf("the client got %v of a backend that has ended by %s", err, how)
			}
			s.client.Close()
			return s.end()
		}
		s := newReplays(t, time.Minute)
		got := story(s.scene, func() { s.wantEarly(how); s.giveUp() })
		want := story(newScene(t, time.Minute), func() {})
		if fmt.Sprint(plain(got)) != fmt.Sprint(plain(want)) {
			t.Errorf("result  %+v\nwithout %+v", got, want)
		}
	})
}

// plain is a Result without times, with the errno only, and without what the kernel has measured.
func plain(r Result) Result {
	var errno syscall.Errno
	if errors.As(r.Errno, &errno) {
		r.Errno = errno
	}
	for _, s := range []*Side{&r.Client, &r.Backend} {
		s.At, s.First = time.Time{}, time.Time{}
	}
	r.Sockets = nil
	return r
}

// A backend that has closed its side may still listen.
func TestGivingUpGoesOnWithTheBackend(t *testing.T) {
	s := newClogged(t)
	s.backend.CloseWrite()
	s.wantEarly(observe.CloseFIN)
	s.giveUp()
	s.unclog()
	if got := s.get(s.backend, len(s.sent)); !bytes.Equal(got, s.sent) {
		t.Error("the backend got other bytes than the client has sent")
	}
	if _, err := s.receive(s.client); err != nil {
		t.Errorf("the client got %v, want a FIN", err)
	}
	s.client.Close()
	if r := s.end(); r.Reason != observe.OK || r.In != int64(len(s.sent)) {
		t.Errorf("result %+v", r)
	}
}

// An error that a write was told of is not there for the read that waits.
func TestEarlyResetThatAWriteIsToldOf(t *testing.T) {
	s := newReplays(t, time.Minute, resetUnseen)
	s.wantEarly(observe.CloseRST)
	s.giveUp()
	if r := s.end(); r.Reason != observe.BackendReset {
		t.Errorf("result %+v", r)
	}
}

// A backend whose host is gone: the kernel gives up on what it does not take.
func TestReplayAfterABackendThatIsGone(t *testing.T) {
	s := newClogged(t, func(r *Relay) {
		unix.SetsockoptInt(r.backend.conn.FD(), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 100)
	})
	if early := s.awaited(); early.Close != observe.CloseTimeout || !errors.Is(early, syscall.ETIMEDOUT) {
		t.Fatalf("EndedEarly was told %v", early)
	}
	s.replay()
	if got := s.get(s.backend, len(s.sent)); !bytes.Equal(got, s.sent) {
		t.Error("the next backend got other bytes than the client has sent")
	}
	if r := s.answerAndEnd(); r.Reason != observe.OK {
		t.Errorf("result %+v", r)
	}
}

func TestEarlyEndInWords(t *testing.T) {
	for want, err := range map[string]*EarlyEnd{
		"the endpoint closed the connection before it had sent anything": {Close: observe.CloseFIN},
		"the endpoint ended the connection before it had sent anything: connection reset by peer": {
			Close: observe.CloseRST, Errno: syscall.ECONNRESET},
	} {
		if got := err.Error(); got != want {
			t.Errorf("%+v says %q, want %q", *err, got, want)
		}
	}
}

// The header is not the client's: whoever connects writes it to each backend.
func TestReplayBehindAHeader(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	backend, theirs := pair(t)
	s.send(theirs, []byte("PROXY UNKNOWN\r\n"))
	s.backend = backend
	s.relay.Replay(adopt(t, theirs))
	if got := s.get(backend, 22); string(got) != "PROXY UNKNOWN\r\nrequest" {
		t.Errorf("the next backend got %q", got)
	}
	if r := s.answerAndEnd(); r.In != 7 {
		t.Errorf("result %+v", r)
	}
}

func TestSilentBackendAfterAFIN(t *testing.T) {
	s := newReplays(t, 50*time.Millisecond)
	s.client.CloseWrite()
	s.wantAnswered()
	if _, err := s.receive(s.client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client got %v, want a reset", err)
	}
	if r := s.end(); r.Reason != observe.HalfCloseTimeout {
		t.Errorf("result %+v", r)
	}
}

// Only a backend can be silent for too long, and each has its own time for it.
func TestSilentBackendAfterAReplay(t *testing.T) {
	const limit = 100 * time.Millisecond
	s := newReplays(t, limit)
	s.client.CloseWrite()
	s.receive(s.backend)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	time.Sleep(3 * limit) // another one is connected to
	s.replay()
	if _, err := s.receive(s.backend); err != nil {
		t.Fatalf("the next backend got %v, want a FIN", err)
	}
	s.wantAnswered()
	if r := s.end(); r.Reason != observe.HalfCloseTimeout {
		t.Errorf("result %+v", r)
	}
}

// A reset ends the connection also when what is held finds nobody to read it.
func TestResetEndsAHoldThatNobodyReads(t *testing.T) {
	s := newClogged(t, func(r *Relay) { r.clock = clockWith(timeouts{100 * time.Millisecond, usual.prompt}) })
	s.send(s.backend, []byte("answer"))
	s.get(s.client, 6)
	reset(s.client)
	s.send(s.backend, []byte("now the relay learns of the reset"))
	if r := s.end(); r.Reason != observe.ClientReset {
		t.Errorf("result %+v", r)
	}
}

// TestAbortOfAReplay ends a connection in each of its phases.
func TestAbortOfAReplay(t *testing.T) {
	phases := map[string]func(t *testing.T) *replays{
		"before anything was sent": func(t *testing.T) *replays { return newReplays(t, time.Minute) },
		"while a request is held": func(t *testing.T) *replays {
			s := newReplays(t, time.Minute)
			s.send(s.client, []byte("request"))
			s.get(s.backend, 7)
			return s
		},
		"after the client's FIN": func(t *testing.T) *replays {
			s := newReplays(t, time.Minute)
			s.client.CloseWrite()
			s.receive(s.backend)
			return s
		},
		"while the backend reads nothing": func(t *testing.T) *replays { return newClogged(t).replays },
		"between two backends": func(t *testing.T) *replays {
			s := newReplays(t, time.Minute)
			reset(s.backend)
			s.wantEarly(observe.CloseRST)
			return s
		},
		"after a replay": func(t *testing.T) *replays {
			s := newReplays(t, time.Minute)
			s.send(s.client, []byte("request"))
			reset(s.backend)
			s.wantEarly(observe.CloseRST)
			s.replay()
			s.get(s.backend, 7)
			return s
		},
		"beyond the limit": func(t *testing.T) *replays {
			s := newReplays(t, time.Minute)
			go s.client.Write(make([]byte, 2*HoldLimit))
			s.get(s.backend, 2*HoldLimit)
			return s
		},
		"after the answer": func(t *testing.T) *replays {
			s := newReplays(t, time.Minute)
			s.send(s.backend, []byte("answer"))
			s.get(s.client, 6)
			return s
		},
	}
	for name, reach := range phases {
		t.Run(name, func(t *testing.T) {
			s := reach(t)
			s.relay.Abort(observe.Shutdown)
			if name == "between two backends" {
				s.replay() // connected in the same moment
			}
			s.wantAnswered()
			r := s.end()
			if r.Reason != observe.Shutdown || r.Client.Sent != observe.CloseRST || r.Backend.Sent != observe.CloseRST {
				t.Errorf("result %+v", r)
			}
			for _, peer := range []*net.TCPConn{s.client, s.backend} {
				eventually(t, "both peers get a reset", func() error {
					if !look(peer).Closed() {
						return errors.New("one is still connected")
					}
					return nil
				})
			}
			if s.buffered() {
				t.Error("a buffer is still held")
			}
			s.relay.Abort(observe.Shutdown) // late, and harmless
		})
	}
}

func TestAbortBetweenTwoBackendsAndGivingUp(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.backend.CloseWrite()
	s.wantEarly(observe.CloseFIN)
	s.relay.Abort(observe.Shutdown)
	s.giveUp()
	if r := s.end(); r.Reason != observe.Shutdown || r.Client.Sent != observe.CloseRST {
		t.Errorf("result %+v", r)
	}
}

func TestAbortBeforeTheStart(t *testing.T) {
	for _, hold := range []bool{false, true} {
		s := newSceneWith(t, settings(time.Minute, hold), func(r *Relay) { r.Abort(observe.Shutdown) })
		if r := s.end(); r.Reason != observe.Shutdown {
			t.Errorf("result %+v", r)
		}
		if _, err := s.receive(s.client); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client got %v, want a reset", err)
		}
	}
}

func TestNothingIsLeftOfReplays(t *testing.T) {
	goroutines, sockets := runtime.NumGoroutine(), openSockets()
	for range 100 {
		s := newReplays(t, time.Minute)
		s.send(s.client, random(5000))
		s.get(s.backend, 5000)
		reset(s.backend)
		s.wantEarly(observe.CloseRST)
		s.replay()
		s.get(s.backend, 5000)
		s.backend.CloseWrite()
		s.wantEarly(observe.CloseFIN)
		s.backend.Close()
		s.giveUp()
		s.client.Close()
		s.end()
	}
	eventually(t, "back to where it was", func() error {
		if g, n := runtime.NumGoroutine(), openSockets(); g > goroutines || n > sockets {
			return fmt.Errorf("goroutines %d -> %d, sockets %d -> %d", goroutines, g, sockets, n)
		}
		return nil
	})
}

func random(n int) []byte {
	data := make([]byte, n)
	fill(data)
	return data
}

// resetUnseen has a relay's backend reset the connection, and somebody else be told of it.
func resetUnseen(r *Relay) {
	reset(r.owner.(*scene).backend)
	for !r.backend.conn.Closed() {
		runtime.Gosched()
	}
	unix.GetsockoptInt(r.backend.conn.FD(), unix.SOL_SOCKET, unix.SO_ERROR)
}
