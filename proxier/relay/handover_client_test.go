package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// releaseClient takes the client from a relay that waits for another backend, as another
// process would get it.
func (s *replays) releaseClient() (*tcp.Conn, State) {
	s.t.Helper()
	client, state, err := s.relay.ReleaseClient()
	if err != nil {
		s.t.Fatalf("release the client: %v", err)
	}
	if old, ok := s.relay.owner.(*predecessor); ok {
		old.released.Store(true)
	}
	written, err := json.Marshal(state)
	if err != nil {
		s.t.Fatal(err)
	}
	var read State
	if err := json.Unmarshal(written, &read); err != nil {
		s.t.Fatal(err)
	}
	return another(client), read
}

// resumeWith prepares a successor with another backend.
func (s *replays) resumeWith(client *tcp.Conn, state State) {
	s.t.Helper()
	backend, theirs := pair(s.t)
	s.backend = backend
	var err error
	if s.relay, err = Resume(client, adopt(s.t, theirs), state, s.relay.settings(), &predecessor{Owner: s.scene, t: s.t}); err != nil {
		s.t.Fatal(err)
	}
}

// moveClient has the successor of a relay that waits for another backend find one.
func (s *replays) moveClient() State {
	s.t.Helper()
	client, state := s.releaseClient()
	s.resumeWith(client, state)
	s.relay.Start()
	return state
}

// Every one of these backends ends early, and so does the process each time.
func TestAClientWithoutABackendIsHandedOver(t *testing.T) {
	both(t, func(t *testing.T, how observe.Close, leave func(*net.TCPConn)) {
		for _, size := range []int{0, 7, smallHold + 1, HoldLimit} {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				s := newReplays(t, time.Minute)
				started := time.Now().Truncate(tickLength)
				request := random(size)
				s.send(s.client, request)
				for range 3 {
					s.get(s.backend, size)
					leave(s.backend)
					s.wantEarly(how)
					if _, _, _, err := s.relay.Release(); err != ErrNotNow {
						t.Errorf("released without a backend: %v", err)
					}
					state := s.moveClient()
					if !state.Hold || !bytes.Equal(state.Held, request) || state.In != 0 || state.Out != 0 || state.Backend != (Side{}) || !state.Began.IsZero() {
						t.Fatalf("%d bytes are held of %d; state %+v", len(state.Held), size, state)
					}
					if state.Started.Before(started.Add(-tickLength)) || state.Started.After(started.Add(2*tickLength)) || state.Client.First.IsZero() != (size == 0) {
						t.Errorf("it began at %s, not at %s; %+v", state.Started, started, state.Client)
					}
					if got := s.get(s.backend, size); !bytes.Equal(got, request) {
						t.Error("the backend got other bytes than the client has sent")
					}
					if state := s.handOver(); state.In != int64(size) || !bytes.Equal(state.Held, request) {
						t.Fatalf("%d bytes are held, %d were sent", len(state.Held), state.In)
					}
					leave(s.backend)
					s.wantEarly(how)
					s.replay()
				}
				if got := s.get(s.backend, size); !bytes.Equal(got, request) {
					t.Error("the last backend got other bytes than the client has sent")
				}
				if r := s.answerAndEnd(); r.Reason != observe.OK || r.In != int64(size) || r.Out != 6 {
					t.Errorf("result %+v", r)
				}
				if len(s.took) != 1 {
					t.Errorf("Answered was called %d times", len(s.took))
				}
			})
		}
	})
}

// A backend that has closed its side only is told that nobody listens any more.
func TestReleaseClientClosesTheBackend(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	s.backend.CloseWrite()
	s.wantEarly(observe.CloseFIN)
	first := s.backend
	s.moveClient()
	if _, err := s.receive(first); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it got %v, want a reset", err)
	}
	s.get(s.backend, 7)
	s.answerAndEnd()
}

// The client's FIN reaches the backend that another process has found.
func TestAClientThatHasSentItsFINIsHandedOver(t *testing.T) {
	for name, early := range map[string]bool{"passed on before": false, "in between": true} {
		t.Run(name, func(t *testing.T) {
			s := newReplays(t, time.Minute)
			s.send(s.client, []byte("request"))
			if !early {
				s.client.CloseWrite()
				s.receive(s.backend)
			} else {
				s.get(s.backend, 7)
			}
			closed := time.Now()
			reset(s.backend)
			s.wantEarly(observe.CloseRST)
			client, state := s.releaseClient()
			if want := map[bool]observe.Close{false: observe.CloseFIN, true: observe.CloseNone}[early]; state.Client.Close != want || state.Client.Sent != observe.CloseNone {
				t.Errorf("the client is %+v", state.Client)
			}
			if early {
				s.client.CloseWrite()
			}
			s.resumeWith(client, state)
			s.relay.Start()
			if got, err := s.receive(s.backend); string(got) != "request" || err != nil {
				t.Errorf("the backend got %q, %v", got, err)
			}
			s.send(s.backend, []byte("answer"))
			s.backend.Close()
			if got, err := s.receive(s.client); string(got) != "answer" || err != nil {
				t.Errorf("the client got %q, %v", got, err)
			}
			r := s.end()
			if r.Reason != observe.OK || r.In != 7 || r.Out != 6 || r.Client.Close != observe.CloseFIN || r.Client.At.After(closed) != early {
				t.Errorf("the client has closed at %s, %s before; result %+v", closed, name, r)
			}
		})
	}
}

// What comes while nobody reads is sent after what was held.
func TestWhatComesBetweenReleaseClientAndStart(t *testing.T) {
	s := newReplays(t, time.Minute)
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	s.send(s.client, []byte(", more")) // the relay rests
	waitSent(look(s.client), patience, nil)
	client, state := s.releaseClient()
	if string(state.Held) != "request" {
		t.Errorf("%q is held", state.Held)
	}
	s.send(s.client, []byte(" and most"))
	waitSent(look(s.client), patience, nil)
	s.resumeWith(client, state)
	s.relay.Start()
	if got := s.get(s.backend, 22); string(got) != "request, more and most" {
		t.Errorf("the backend got %q", got)
	}
	if r := s.answerAndEnd(); r.Reason != observe.OK || r.In != 22 {
		t.Errorf("result %+v", r)
	}
}

// untilReset waits until the relay's socket knows that the client is gone.
func untilReset(t *testing.T, client *tcp.Conn) {
	t.Helper()
	eventually(t, "the reset has arrived", func() error {
		if !client.Closed() {
			return errors.New("no")
		}
		return nil
	})
}

// Nobody waits for an answer any more: the request is not sent again.
func TestAClientThatResetsWhileItIsHandedOver(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		s := newReplays(t, time.Minute)
		s.send(s.client, []byte("request"))
		s.get(s.backend, 7)
		reset(s.backend)
		s.wantEarly(observe.CloseRST)
		reset(s.client)
		untilReset(t, s.relay.client.conn)
		if _, _, err := s.relay.ReleaseClient(); err != ErrEnding {
			t.Errorf("released: %v", err)
		}
		s.giveUp()
		if r := s.end(); r.Reason != observe.ClientReset {
			t.Errorf("result %+v", r)
		}
	})
	t.Run("after", func(t *testing.T) {
		s := newReplays(t, time.Minute)
		s.send(s.client, []byte("request"))
		s.get(s.backend, 7)
		reset(s.backend)
		s.wantEarly(observe.CloseRST)
		client, state := s.releaseClient()
		reset(s.client)
		untilReset(t, client)
		s.resumeWith(client, state)
		s.relay.Start()
		if got, err := s.receive(s.backend); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the next backend got %q, %v", got, err)
		}
		if r := s.end(); r.Reason != observe.ClientReset || r.In != 0 {
			t.Errorf("result %+v", r)
		}
	})
}

func TestWhenAClientIsNotReleased(t *testing.T) {
	s := newReplays(t, time.Minute)
	if _, _, err := s.relay.ReleaseClient(); err != ErrHasBackend {
		t.Errorf("a client with a backend was released: %v", err)
	}
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	client, state := s.releaseClient()
	if _, _, err := s.relay.ReleaseClient(); err != ErrEnding {
		t.Errorf("a client was released twice: %v", err)
	}
	if _, _, _, err := s.relay.Release(); err != ErrEnding {
		t.Errorf("a relay without connections was released: %v", err)
	}
	s.relay.Abort(observe.Shutdown) // too late, and harmless
	s.relay.wakeBoth()
	s.relay.look()
	if s.relay.Look(func(_, _ *tcp.Conn) {}) || len(s.result) > 0 {
		t.Error("the relay goes on")
	}
	s.resumeWith(client, state)
	s.relay.Start()
	s.get(s.backend, 7)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	s.relay.Abort(observe.Shutdown)
	if _, _, err := s.relay.ReleaseClient(); err != ErrEnding {
		t.Errorf("the client of an aborted relay was released: %v", err)
	}
	s.giveUp()
	if r := s.end(); r.Reason != observe.Shutdown {
		t.Errorf("result %+v", r)
	}
	if _, _, err := s.relay.ReleaseClient(); err != ErrEnding {
		t.Errorf("the client of a relay that has ended was released: %v", err)
	}
}

// A client that sends all the time, backends that end early, and processes that end: no byte
// is lost, repeated or put elsewhere.
func TestClientsAreHandedOverAtRandomMoments(t *testing.T) {
	for i := range 60 {
		s := newReplays(t, time.Minute)
		request := random(1 + rand.IntN(HoldLimit))
		go func(client *net.TCPConn) {
			for rest := request; len(rest) > 0; {
				n := min(1+rand.IntN(4000), len(rest))
				client.Write(rest[:n])
				rest = rest[n:]
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
			}
			client.CloseWrite()
		}(s.client)
		for range 1 + rand.IntN(5) {
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			reset(s.backend)
			s.wantEarly(observe.CloseRST)
			if rand.IntN(3) == 0 {
				s.replay()
			} else {
				s.moveClient()
			}
		}
		if got, err := s.receive(s.backend); !bytes.Equal(got, request) || err != nil {
			t.Fatalf("connection %d: the backend got %d bytes of %d, %v", i, len(got), len(request), err)
		}
		s.send(s.backend, []byte("answer"))
		s.backend.Close()
		if got, err := s.receive(s.client); string(got) != "answer" || err != nil {
			t.Fatalf("connection %d: the client got %q, %v", i, got, err)
		}
		if r := s.end(); r.Reason != observe.OK || r.In != int64(len(request)) || r.Out != 6 {
			t.Fatalf("connection %d: result %+v", i, r)
		}
	}
}
