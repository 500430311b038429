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
	s := newScene(t, time.Minute)
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
	if d := <-s.took; d < thinks || d != r.Backend.First.Sub(r.Client.First) {
		t.Errorf("Answered was told %v, the first bytes came at %v and %v", d, r.Client.First, r.Backend.First)
	}
	if len(s.took) > 0 {
		t.Error("Answered was told twice")
	}
}

// A backend that speaks first is measured from the beginning.
func TestFirstByteOfABackendThatSpeaksFirst(t *testing.T) {
	s := newScene(t, time.Minute)
	s.send(s.backend, []byte("hello"))
	s.get(s.client, 5)
	if d := <-s.took; d < 0 || d > patience {
		t.Errorf("Answered was told %v", d)
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
			s := newScene(t, time.Minute)
			leave(s.backend)
			s.receive(s.client)
			s.client.Close()
			r := s.end()
			if !r.Backend.First.IsZero() || !r.Client.First.IsZero() || len(s.took) > 0 {
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
func TestAnIdleRelayHoldsNothing(t *testing.T) {
	const n = 20
	var scenes []*scene
	pollers() // have some of their own
	goroutines := runtime.NumGoroutine()
	for range n {
		scenes = append(scenes, newScene(t, time.Minute))
	}
	for _, s := range scenes {
		const bulk = 4 << 20
		go s.client.Write(make([]byte, bulk))
		s.get(s.backend, bulk)
		s.send(s.backend, []byte("y"))
		s.get(s.client, 1)
	}
	eventually(t, "they hold nothing", func() error {
		if ends := openPipes() - inherited; ends > 2*keepPipes {
			return fmt.Errorf("%d idle relays have %d ends of pipes", n, ends)
		}
		if g := runtime.NumGoroutine() - goroutines; g > 0 {
			return fmt.Errorf("they have %d goroutines", g)
		}
		return nil
	})
	for _, s := range scenes {
		s.client.Close()
		s.backend.Close()
		if r := s.end(); r.In != 4<<20 || r.Out != 1 {
			t.Errorf("result %+v", r)
		}
	}
}

// inherited are the ends of pipes that the test was started with.
var inherited = openPipes()

func openPipes() int   { return openFiles("pipe:") }
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
