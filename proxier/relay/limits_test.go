package relay

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/tcp/tcptest"
)

func newLimited(t *testing.T, l Limits, change ...func(*Relay)) *scene {
	return newSceneWith(t, Settings{Limits: &l, Clock: clock()}, change...)
}

// wantCut waits for the end by a limit: not before its time, and by resets.
func (s *scene) wantCut(since time.Time, limit time.Duration, reason observe.Reason) {
	s.t.Helper()
	r, took := s.end(), time.Since(since)
	if r.Reason != reason || r.Client.Sent != observe.CloseRST || r.Backend.Sent != observe.CloseRST {
		s.t.Errorf("result %+v, want %s and resets", r, reason)
	}
	if took < limit {
		s.t.Errorf("it ends after %v, the limit is %v", took, limit)
	}
	for _, peer := range []*net.TCPConn{s.client, s.backend} {
		if _, err := s.receive(peer); !errors.Is(err, syscall.ECONNRESET) {
			s.t.Errorf("a peer got %v, want a reset", err)
		}
	}
}

func TestIdleConnectionEnds(t *testing.T) {
	t.Parallel()
	const limit = 370 * time.Millisecond // nearly three ticks
	began := time.Now()
	newLimited(t, Limits{Idle: limit}).wantCut(began, limit, observe.IdleTimeout)

	s := newLimited(t, Limits{Idle: limit}) // and when it was not idle at first
	for range 10 {
		began = time.Now()
		s.send(s.client, []byte("?"))
		io.ReadFull(s.backend, make([]byte, 1))
		s.send(s.backend, []byte("!"))
		io.ReadFull(s.client, make([]byte, 1))
	}
	s.wantCut(began, limit, observe.IdleTimeout)
}

func TestConnectionIsNotIdleWhileOneSideTalks(t *testing.T) {
	const limit = 800 * time.Millisecond
	for _, from := range []string{"client", "backend"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			s := newLimited(t, Limits{Idle: limit})
			talks, listens := s.client, s.backend
			if from == "backend" {
				talks, listens = listens, talks
			}
			tick := time.NewTicker(limit / 4)
			defer tick.Stop()
			for range 12 { // three times the limit
				<-tick.C
				s.send(talks, []byte("."))
			}
			talks.Close()
			if got, err := s.receive(listens); len(got) != 12 || err != nil {
				t.Errorf("it got %q, %v", got, err)
			}
			listens.Close()
			if r := s.end(); r.Reason != observe.OK {
				t.Errorf("result %+v", r)
			}
		})
	}
}

// Everything was written to the client's socket, and the client takes its time to read it.
func TestConnectionIsNotIdleWhileAPeerTakesWhatWasSent(t *testing.T) {
	t.Parallel()
	const limit, size = 800 * time.Millisecond, 1 << 20
	s := newLimited(t, Limits{Idle: limit}, func(r *Relay) {
		unix.SetsockoptInt(r.client.conn.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, 2*size)
	})
	s.client.SetReadBuffer(16 << 10)
	s.send(s.backend, make([]byte, size))
	for deadline := time.Now().Add(patience); ; {
		if _, out := s.relay.Moved(); out == size {
			break
		} else if time.Now().After(deadline) {
			t.Skipf("the kernel has room for %d bytes only", out)
		}
	}
	s.client.SetReadDeadline(time.Now().Add(patience))
	tick := time.NewTicker(limit / 4)
	defer tick.Stop()
	for range 16 { // four times the limit
		<-tick.C
		if _, err := io.ReadFull(s.client, make([]byte, size/16)); err != nil {
			t.Fatalf("the client got %v", err)
		}
	}
	s.wantCut(time.Now(), 0, observe.IdleTimeout) // and now it is
}

// The client reads nothing, while the endpoint sends without end.
func TestConnectionIsIdleWhenNobodyReads(t *testing.T) {
	t.Parallel()
	s := newLimited(t, Limits{Idle: 200 * time.Millisecond})
	go flood(s.backend)
	if r := s.end(); r.Reason != observe.IdleTimeout {
		t.Errorf("result %+v", r)
	}
}

func TestTheShorterLimitEndsAHalfOpenConnection(t *testing.T) {
	t.Parallel()
	const short, long = 200 * time.Millisecond, time.Minute
	for _, c := range []struct {
		limits Limits
		want   observe.Reason
	}{
		{Limits{HalfClose: short, Idle: long}, observe.HalfCloseTimeout},
		{Limits{HalfClose: long, Idle: short}, observe.IdleTimeout},
		{Limits{Idle: short}, observe.IdleTimeout}, // no limit is not the shortest one
		{Limits{HalfClose: short, Duration: long}, observe.HalfCloseTimeout},
		{Limits{HalfClose: long, Duration: short}, observe.MaxDuration},
	} {
		began := time.Now()
		s := newLimited(t, c.limits)
		s.client.CloseWrite()
		if r := s.end(); r.Reason != c.want || time.Since(began) < short {
			t.Errorf("%+v: it ends after %v with %+v", c.limits, time.Since(began), r)
		}
	}
}

func TestConnectionEndsWhenItIsTooOld(t *testing.T) {
	t.Parallel()
	const limit = 500 * time.Millisecond
	began := time.Now()
	s := newLimited(t, Limits{Idle: time.Minute, Duration: limit})
	done := make(chan struct{})
	go func() { // it is not idle
		defer close(done)
		for one := make([]byte, 1); ; time.Sleep(time.Millisecond) {
			s.client.SetDeadline(time.Now().Add(patience))
			if _, err := s.client.Write(one); err != nil {
				return
			}
		}
	}()
	r := s.end()
	if took := time.Since(began); r.Reason != observe.MaxDuration || took < limit || r.Backend.Sent != observe.CloseRST {
		t.Errorf("it ends after %v with %+v", took, r)
	}
	<-done
}

// While another backend is looked for nobody can say anything. Its age stays the same.
func TestAReplayIsNotIdle(t *testing.T) {
	t.Parallel()
	const idle, duration = 500 * time.Millisecond, 3 * time.Second
	s := &replays{newSceneWith(t, Settings{Limits: &Limits{Idle: idle, Duration: duration}, Clock: clock(), Hold: true})}
	born := s.relay.born
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	time.Sleep(3 * idle)
	s.replay()
	s.get(s.backend, 7)
	tick := time.NewTicker(idle / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.client.Write([]byte("."))
		case r := <-s.result:
			if r.Reason != observe.MaxDuration || s.relay.born != born {
				t.Errorf("result %+v of a relay that began at %d, not %d", r, s.relay.born, born)
			}
			return
		}
	}
}

// liveness is what the kernel knows of a socket.
func liveness(t *testing.T, fd int) tcp.Liveness {
	t.Helper()
	l, err := tcptest.Liveness(fd)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A backend's socket gets its keep-alive before it is time for it, and not at once: a
// short connection does without.
func TestTheBackendsSocketLearnsWhenItsPeerIsGone(t *testing.T) {
	t.Parallel()
	for _, want := range []tcp.Liveness{
		{KeepAlive: tcp.KeepAlive{Idle: 2 * time.Second, Interval: 3 * time.Second, Count: 5}, UserTimeout: 7 * time.Second},
		{KeepAlive: tcp.KeepAlive{Idle: 2 * time.Second, Interval: time.Second, Count: 1}},
		{UserTimeout: 2 * time.Second},
	} {
		began := time.Now()
		s := newLimited(t, Limits{Peer: want})
		client, fd := s.relay.client.conn.FD(), s.relay.backend.conn.FD()
		before := liveness(t, client)
		for had := (tcp.Liveness{}); ; {
			now := liveness(t, fd)
			if now == want {
				break
			}
			had = now
			if time.Since(began) > patience {
				t.Fatalf("the backend's socket has %+v, want %+v", had, want)
			}
		}
		if took := time.Since(began); took < time.Second {
			t.Errorf("it has it after %v", took)
		}
		if has := liveness(t, client); has != before {
			t.Errorf("the client's socket has %+v, it had %+v", has, before)
		}
		clock().turning.Lock() // the relay was called, and is left alone now
		clock().mu.Lock()
		if s.relay.due != 0 {
			t.Error("the clock will call it again, for nothing")
		}
		clock().mu.Unlock()
		clock().turning.Unlock()
	}
}

// Each backend of a connection has its own socket.
func TestTheNextBackendsSocketLearnsItToo(t *testing.T) {
	t.Parallel()
	want := tcp.Liveness{KeepAlive: tcp.KeepAlive{Idle: time.Second, Interval: 3 * time.Second, Count: 5}}
	s := &replays{newSceneWith(t, Settings{Limits: &Limits{Peer: want}, Clock: clock(), Hold: true})}
	wait := func() {
		t.Helper()
		for began := time.Now(); ; {
			s.relay.mu.Lock()
			has := liveness(t, s.relay.backend.conn.FD())
			s.relay.mu.Unlock()
			if has == want {
				return
			}
			if time.Since(began) > patience {
				t.Fatalf("the socket has %+v, want %+v", has, want)
			}
		}
	}
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	wait()
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	s.replay()
	s.get(s.backend, 7)
	wait()
}

// A relay without limits has nothing to do with the clock, and all fit into 352 bytes, which
// is what the allocator has for it (runtime/sizeclasses.go).
func TestRelayIsSmall(t *testing.T) {
	s := newLimited(t, Limits{})
	if s.relay.due != 0 {
		t.Error("the clock will call it")
	}
	if size := unsafe.Sizeof(Relay{}); size > 352 {
		t.Errorf("a relay has %d bytes", size)
	}
}
