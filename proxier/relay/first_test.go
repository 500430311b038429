package relay

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// onAnswer returns a channel of what OnAnswer is told.
func onAnswer(took chan time.Duration) func(*Relay) {
	return func(r *Relay) { r.OnAnswer = func(d time.Duration) { took <- d } }
}

// get reads so many bytes at a peer.
func (s *scene) get(at *net.TCPConn, n int) []byte {
	s.t.Helper()
	at.SetReadDeadline(time.Now().Add(patience))
	data := make([]byte, n)
	if got, err := io.ReadFull(at, data); err != nil {
		s.t.Fatalf("a peer got %d bytes of %d: %v", got, n, err)
	}
	return data
}

func TestFirstBytesOfAnAnswer(t *testing.T) {
	took := make(chan time.Duration, 2)
	s := newScene(t, time.Minute, onAnswer(took))
	s.send(s.client, []byte("request"))
	s.get(s.backend, 7)
	asked := time.Now()
	const thinks = 30 * time.Millisecond
	time.Sleep(thinks)
	answered := time.Now()
	s.send(s.backend, []byte("answer"))
	s.get(s.client, 6)
	s.send(s.backend, []byte("more"))
	s.get(s.client, 4)
	s.client.Close()
	s.backend.Close()
	r := s.end()
	if r.Client.First.IsZero() || r.Client.First.After(asked) {
		t.Errorf("the client's first byte came before %v, the result says %v", asked, r.Client.First)
	}
	if r.Backend.First.Before(answered) || r.Backend.First.After(r.Backend.At) {
		t.Errorf("the backend's first byte came after %v, the result says %v", answered, r.Backend.First)
	}
	if d := <-took; d < thinks || d != r.Backend.First.Sub(r.Client.First) {
		t.Errorf("OnAnswer was told %v, the first bytes came at %v and %v", d, r.Client.First, r.Backend.First)
	}
	if len(took) > 0 {
		t.Error("OnAnswer was told twice")
	}
}

// A backend that speaks first is measured from the beginning.
func TestFirstByteOfABackendThatSpeaksFirst(t *testing.T) {
	took := make(chan time.Duration, 2)
	s := newScene(t, time.Minute, onAnswer(took))
	s.send(s.backend, []byte("hello"))
	s.get(s.client, 5)
	if d := <-took; d < 0 || d > patience {
		t.Errorf("OnAnswer was told %v", d)
	}
	s.client.Close()
	s.backend.Close()
	if r := s.end(); r.Backend.First.IsZero() || !r.Client.First.IsZero() {
		t.Errorf("only the backend has sent something, the result says %+v", r)
	}
}

func TestNoFirstByte(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){"FIN": func(c *net.TCPConn) { c.Close() }, "reset": reset} {
		t.Run(name, func(t *testing.T) {
			took := make(chan time.Duration, 2)
			s := newScene(t, time.Minute, onAnswer(took))
			leave(s.backend)
			s.receive(s.client)
			s.client.Close()
			r := s.end()
			if !r.Backend.First.IsZero() || !r.Client.First.IsZero() || len(took) > 0 {
				t.Errorf("nothing was sent, the result says %+v", r)
			}
			want := map[string]observe.Reason{"FIN": observe.OK, "reset": observe.BackendReset}[name]
			if r.Reason != want {
				t.Errorf("reason %q, want %q", r.Reason, want)
			}
		})
	}
}

// Idle connections are many; a pipe takes two files and up to 1 MiB.
func TestAnIdleRelayHasNoPipe(t *testing.T) {
	eventually(t, "no pipe is left of other tests", func() error {
		runtime.GC() // the runtime keeps pipes in a pool
		if n := pipes() - inherited; n > 0 {
			return fmt.Errorf("%d ends are", n)
		}
		return nil
	})
	const n = 10
	var scenes []*scene
	for range n {
		scenes = append(scenes, newScene(t, time.Minute))
	}
	if ends := pipes() - inherited; ends != 0 {
		t.Errorf("%d idle relays have %d ends of pipes", n, ends)
	}
	for _, s := range scenes {
		s.send(s.client, []byte("x"))
		s.get(s.backend, 1)
		s.send(s.backend, []byte("y"))
		s.get(s.client, 1)
	}
	if ends := pipes() - inherited; ends != 4*n {
		t.Errorf("%d busy relays have %d ends of pipes, want %d", n, ends, 4*n)
	}
	for _, s := range scenes {
		s.client.Close()
		s.backend.Close()
		s.end()
	}
}

// inherited are the ends of pipes that the test was started with.
var inherited = pipes()

func pipes() int       { return openFiles("pipe:") }
func openSockets() int { return openFiles("socket:") }

func openFiles(kind string) (n int) {
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, f := range files {
		if to, _ := os.Readlink(f); strings.HasPrefix(to, kind) {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(time.Millisecond)
	}
}
