package relay

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/tcp/tcptest"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// scene is a relay with the two peers that it serves, and its owner.
type scene struct {
	t               *testing.T
	client, backend *net.TCPConn // the peers' ends
	relay           *Relay
	result          chan Result
	took            chan time.Duration // what Answered was told
	early           chan *EarlyEnd     // what EndedEarly was told
	panics          atomic.Int32
}

func newScene(t *testing.T, halfClose time.Duration, change ...func(*Relay)) *scene {
	return newSceneWith(t, settings(halfClose, false), change...)
}

func newSceneWith(t *testing.T, settings Settings, change ...func(*Relay)) *scene {
	return newSceneOver(t, pair, settings, change...)
}

func newSceneOver(t *testing.T, pair func(*testing.T) (dialled, accepted *net.TCPConn), settings Settings, change ...func(*Relay)) *scene {
	client, ours := pair(t)
	backend, theirs := pair(t)
	s := &scene{
		t: t, client: client, backend: backend, result: make(chan Result, 1),
		took: make(chan time.Duration, 2), early: make(chan *EarlyEnd, 1),
	}
	s.relay = New(adopt(t, ours), adopt(t, theirs), settings, s)
	for _, f := range change {
		f(s.relay)
	}
	s.relay.Start()
	return s
}

func (s *scene) Answered(took time.Duration) { s.took <- took }
func (s *scene) Panicked(value any)          { s.panics.Add(1) }
func (s *scene) EndedEarly(e *EarlyEnd)      { s.early <- e }
func (s *scene) Ended(r Result)              { s.result <- r }

// pollers serve all relays of these tests.
var pollers = sync.OnceValue(func() *tcp.Pollers {
	p, err := tcp.NewPollers(runtime.GOMAXPROCS(0))
	if err != nil {
		panic(err)
	}
	return p
})

// clock serves all relays of these tests but those with timeouts of their own.
var clock = sync.OnceValue(NewClock)

// clockWith is another clock.
func clockWith(t timeouts) *Clock {
	c := NewClock()
	c.timeouts = t
	return c
}

// settings are those that a successor has.
func (r *Relay) settings() Settings { return Settings{Limits: r.limits, Clock: r.clock} }

func settings(halfClose time.Duration, hold bool) Settings {
	return Settings{Limits: &Limits{HalfClose: halfClose}, Clock: clock(), Hold: hold}
}

// adopt takes the socket over from the runtime.
func adopt(t testing.TB, c *net.TCPConn) *tcp.Conn {
	return tcptest.Adopt(t, c, pollers().For(nil))
}

// look is for asking what the kernel knows of a peer's connection.
func look(c *net.TCPConn) *tcp.Conn {
	fd := -1
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(n uintptr) { fd = int(n) })
	}
	return tcp.New(fd, nil)
}

// pair returns both ends of a TCP connection over loopback.
func pair(t *testing.T) (dialled, accepted *net.TCPConn) { return tcptest.Pair(t, net.Dialer{}) }

func (s *scene) send(from *net.TCPConn, data []byte) {
	s.t.Helper()
	from.SetWriteDeadline(time.Now().Add(patience))
	if _, err := from.Write(data); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

// receive reads all that a peer gets, and how it ended.
func (s *scene) receive(at *net.TCPConn) ([]byte, error) {
	s.t.Helper()
	at.SetReadDeadline(time.Now().Add(patience))
	data, err := io.ReadAll(at)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Fatal("a peer still waits for the end of its connection")
	}
	return data, err
}

func (s *scene) end() Result {
	s.t.Helper()
	select {
	case r := <-s.result:
		return r
	case <-time.After(patience):
		s.t.Fatal("the relay does not end")
		return Result{}
	}
}

func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

func TestClientHalfClosesAndStillGetsTheWholeAnswer(t *testing.T) {
	s := newScene(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.client.CloseWrite()
	if got, err := s.receive(s.backend); string(got) != "request" || err != nil {
		t.Fatalf("backend got %q, %v", got, err)
	}
	answer := make([]byte, 1<<20)
	fill(answer)
	go func() {
		s.backend.Write(answer)
		s.backend.Close()
	}()
	if got, err := s.receive(s.client); !bytes.Equal(got, answer) || err != nil {
		t.Fatalf("client got %d bytes, %v", len(got), err)
	}
	r := s.end()
	if r.Reason != observe.OK || r.In != 7 || r.Out != 1<<20 || r.Errno != nil {
		t.Errorf("result %+v", r)
	}
	if r.Client.Close != observe.CloseFIN || r.Backend.Close != observe.CloseFIN || !r.Client.At.Before(r.Backend.At) {
		t.Errorf("the client closed first, the result says client %+v, backend %+v", r.Client, r.Backend)
	}
}

func TestBackendHalfClosesAndStillGetsEverything(t *testing.T) {
	s := newScene(t, time.Minute)
	s.backend.CloseWrite()
	if _, err := s.receive(s.client); err != nil {
		t.Fatal(err)
	}
	s.send(s.client, []byte("late"))
	s.client.Close()
	if got, err := s.receive(s.backend); string(got) != "late" || err != nil {
		t.Fatalf("backend got %q, %v", got, err)
	}
	if r := s.end(); r.Reason != observe.OK || r.In != 4 {
		t.Errorf("result %+v", r)
	}
}

func TestClientReset(t *testing.T) {
	s := newScene(t, time.Minute)
	reset(s.client)
	if _, err := s.receive(s.backend); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("backend got %v, want a reset", err)
	}
	r := s.end()
	if r.Reason != observe.ClientReset || r.Client.Close != observe.CloseRST || r.Backend.Sent != observe.CloseRST {
		t.Errorf("result %+v", r)
	}
	if !errors.Is(r.Errno, syscall.ECONNRESET) {
		t.Errorf("errno %v", r.Errno)
	}
}

// What the backend sent before its reset must all arrive, and only then the
// reset.
func TestBackendResetAfterData(t *testing.T) {
	s := newScene(t, time.Minute)
	sent := make([]byte, 256<<10)
	fill(sent)
	s.send(s.backend, sent)
	// The reset must not overtake the data on its way to the relay.
	waitSent(look(s.backend), patience, nil)
	reset(s.backend)
	got, err := s.receive(s.client)
	if !bytes.Equal(got, sent) {
		t.Errorf("client got %d bytes of %d", len(got), len(sent))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client got %v, want a reset", err)
	}
	r := s.end()
	if r.Reason != observe.BackendReset || r.Out != int64(len(sent)) || r.Client.Sent != observe.CloseRST {
		t.Errorf("result %+v", r)
	}
}

// Whoever is told of a reset first takes the error away from everybody else: a
// read then sees what looks like a FIN. The client must not.
func TestResetThatLooksLikeAFIN(t *testing.T) {
	s := newScene(t, time.Minute, resetUnseen)
	r := s.end()
	if r.Reason != observe.BackendReset || r.Backend.Close != observe.CloseRST || r.Client.Sent != observe.CloseRST {
		t.Errorf("result %+v", r)
	}
	if _, err := s.receive(s.client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client got %v, want a reset", err)
	}
}

// Nobody reads from a client any more that has sent its FIN.
func TestResetAfterAFIN(t *testing.T) {
	s := newScene(t, time.Minute)
	s.client.CloseWrite()
	if _, err := s.receive(s.backend); err != nil {
		t.Fatal(err)
	}
	s.send(s.backend, []byte("unread"))
	waitSent(look(s.backend), patience, nil)
	s.client.Close() // with something unread: a reset
	if r := s.end(); r.Reason != observe.ClientReset {
		t.Errorf("result %+v", r)
	}
}

func TestBackendResetWhileClientSends(t *testing.T) {
	s := newScene(t, time.Minute)
	s.client.SetWriteDeadline(time.Now().Add(patience))
	chunk := make([]byte, 64<<10)
	for err := error(nil); err == nil; _, err = s.client.Write(chunk) {
		s.client.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	}
	reset(s.backend) // which has not read anything
	if _, err := s.receive(s.client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client got %v, want a reset", err)
	}
	r := s.end()
	if r.Reason != observe.BackendReset || r.Backend.Close != observe.CloseRST || r.Client.Sent != observe.CloseRST {
		t.Errorf("result %+v", r)
	}
}

func TestHalfOpenConnectionEndsWhenSilent(t *testing.T) {
	s := newScene(t, 50*time.Millisecond)
	s.client.CloseWrite()
	if _, err := s.receive(s.backend); !errors.Is(err, syscall.ECONNRESET) && err != nil {
		t.Errorf("backend got %v", err)
	}
	if _, err := s.receive(s.client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client got %v, want a reset", err)
	}
	if r := s.end(); r.Reason != observe.HalfCloseTimeout {
		t.Errorf("result %+v", r)
	}
}

func TestHalfOpenConnectionStaysWhileSomethingMoves(t *testing.T) {
	const limit = 100 * time.Millisecond
	s := newScene(t, limit)
	s.client.CloseWrite()
	tick := time.NewTicker(limit / 4)
	defer tick.Stop()
	for range 20 { // five times the limit
		<-tick.C
		s.send(s.backend, []byte("."))
	}
	s.backend.Close()
	if got, err := s.receive(s.client); len(got) != 20 || err != nil {
		t.Errorf("client got %q, %v", got, err)
	}
	if r := s.end(); r.Reason != observe.OK {
		t.Errorf("result %+v", r)
	}
}

// The client closes its half and reads nothing, while the endpoint sends without
// end: nothing moves any more, although both seem busy.
func TestHalfOpenConnectionEndsWhenNobodyReads(t *testing.T) {
	s := newScene(t, 100*time.Millisecond)
	s.client.CloseWrite()
	go flood(s.backend)
	if r := s.end(); r.Reason != observe.HalfCloseTimeout {
		t.Errorf("result %+v", r)
	}
}

// A reset must end a connection also when its last bytes find nobody to read them.
func TestResetEndsAConnectionWithAStalledPeer(t *testing.T) {
	s := newScene(t, time.Minute, func(r *Relay) { r.clock = clockWith(timeouts{100 * time.Millisecond, usual.prompt}) })
	s.client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	flood(s.client) // until the deadline: the backend reads nothing
	reset(s.client)
	s.send(s.backend, []byte("now the relay learns of the reset"))
	if r := s.end(); r.Reason != observe.ClientReset {
		t.Errorf("result %+v", r)
	}
}

// A peer that reads nothing is waited for, and not asked again and again.
func TestAResetBehindAStalledPeerCostsNothing(t *testing.T) {
	const stalled = 500 * time.Millisecond
	s := newScene(t, time.Minute, func(r *Relay) { r.clock = clockWith(timeouts{stalled, usual.prompt}) })
	s.client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	flood(s.client)
	before := used()
	reset(s.client)
	if r := s.end(); r.Reason != observe.ClientReset {
		t.Errorf("result %+v", r)
	}
	if took := used() - before; took > stalled/2 {
		t.Errorf("it took %v of a processor", took)
	}
}

// used is how much time of a processor the process has used.
func used() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// flood writes until it must not, and returns how much it was.
func flood(c *net.TCPConn) (n int) {
	chunk := make([]byte, 64<<10)
	for {
		wrote, err := c.Write(chunk)
		n += wrote
		if err != nil {
			return n
		}
	}
}

// A fault of ours ends one connection, at its next byte, and no other one.
func TestAPanicEndsOneConnection(t *testing.T) {
	for name, bulk := range map[string]bool{"by the poller": false, "by a goroutine": true} {
		t.Run(name, func(t *testing.T) {
			other := newScene(t, time.Minute)
			s := newScene(t, time.Minute, func(r *Relay) { r.up.dst, r.up.bulk = nil, bulk })
			s.client.Write([]byte("request"))
			if r := s.end(); r.Reason != observe.InternalError || s.panics.Load() != 1 {
				t.Errorf("result %+v, %d panics", r, s.panics.Load())
			}
			for _, c := range []*net.TCPConn{s.client, s.backend} {
				if _, err := s.receive(c); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("a peer got %v, want a reset", err)
				}
			}
			other.send(other.client, []byte("request"))
			other.get(other.backend, 7)
			other.closeBoth()
		})
	}
}

func TestAbort(t *testing.T) {
	s := newScene(t, time.Minute)
	s.send(s.client, []byte("hello"))
	s.backend.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(s.backend, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	s.relay.Abort(observe.Shutdown)
	for _, peer := range []*net.TCPConn{s.client, s.backend} {
		if _, err := s.receive(peer); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("peer got %v, want a reset", err)
		}
	}
	if r := s.end(); r.Reason != observe.Shutdown || r.In != 5 {
		t.Errorf("result %+v", r)
	}
	s.relay.Abort(observe.Shutdown) // late, and harmless
}

// A client that reads nothing must not keep an aborted relay.
func TestAbortWhileBlockedInWrite(t *testing.T) {
	s := newScene(t, time.Minute)
	go func() {
		chunk := make([]byte, 64<<10)
		for {
			if _, err := s.backend.Write(chunk); err != nil {
				return
			}
		}
	}()
	for look(s.backend).Unsent() == 0 { // until nothing moves any more
		runtime.Gosched()
	}
	s.relay.Abort(observe.Shutdown)
	if r := s.end(); r.Reason != observe.Shutdown {
		t.Errorf("result %+v", r)
	}
}

// Both directions at once, with sizes that do not fit any buffer.
func TestBytesBothWaysAreEqual(t *testing.T) {
	s := newScene(t, time.Minute)
	up, down := make([]byte, 3<<20+7), make([]byte, 5<<20+3)
	fill(up)
	fill(down)
	write := func(c *net.TCPConn, data []byte) {
		c.SetWriteDeadline(time.Now().Add(patience))
		c.Write(data)
		c.CloseWrite()
	}
	go write(s.client, up)
	go write(s.backend, down)
	atBackend := make(chan []byte, 1)
	go func() {
		s.backend.SetReadDeadline(time.Now().Add(patience))
		data, _ := io.ReadAll(s.backend)
		atBackend <- data
	}()
	atClient, _ := s.receive(s.client)
	if !bytes.Equal(<-atBackend, up) || !bytes.Equal(atClient, down) {
		t.Error("the bytes that arrived are not those that were sent")
	}
	if r := s.end(); r.In != int64(len(up)) || r.Out != int64(len(down)) || r.Reason != observe.OK {
		t.Errorf("result %+v", r)
	}
}

func fill(b []byte) {
	random := rand.NewChaCha8([32]byte{1})
	random.Read(b)
}
