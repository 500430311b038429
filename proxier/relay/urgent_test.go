package relay

import (
	"bytes"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// shout sends one urgent byte.
func shout(t *testing.T, c *net.TCPConn, what byte) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), []byte{what}, unix.MSG_OOB, nil)
		return err != unix.EAGAIN
	})
	if err != nil {
		t.Fatal(err)
	}
}

// busy keeps the poller of a scene from calling anybody.
type busy struct {
	*scene
	begun, end chan struct{}
}

func (b *busy) Answered(time.Duration) {
	close(b.begun)
	<-b.end
}

// newBusy is a scene whose only poller is busy until end is closed.
func newBusy(t *testing.T) *busy {
	b := &busy{begun: make(chan struct{}), end: make(chan struct{})}
	b.scene = newScene(t, time.Minute, func(r *Relay) {
		r.owner = b
		fd, err := unix.FcntlInt(uintptr(r.client.conn.FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.client.conn.Close()
		r.client.conn = tcp.New(fd, r.backend.conn.Poller())
	})
	b.send(b.backend, []byte("x"))
	<-b.begun
	return b
}

func (b *busy) Ended(r Result) { b.result <- r }

// A read ends at the mark, and nobody tells of what is behind it.
func TestUrgentDataInABurst(t *testing.T) {
	for name, prepare := range map[string]func(*flow){
		"through a buffer": func(*flow) {},
		"through a pipe":   func(f *flow) { f.bulk = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := newBusy(t)
			prepare(&s.relay.up)
			s.send(s.client, []byte("abc"))
			shout(t, s.client, '!')
			s.send(s.client, []byte("def"))
			waitSent(look(s.client), patience, nil)
			close(s.end)
			if got := s.get(s.backend, 7); string(got) != "abc!def" {
				t.Errorf("the backend got %q", got)
			}
			s.get(s.client, 1)
			s.closeBoth()
		})
	}
}

// An urgent byte with nothing around it.
func TestUrgentByteAlone(t *testing.T) {
	s := newScene(t, time.Minute)
	shout(t, s.client, '!')
	if got := s.get(s.backend, 1); string(got) != "!" {
		t.Errorf("the backend got %q", got)
	}
	s.send(s.client, []byte("abc"))
	s.get(s.backend, 3)
	s.closeBoth()
}

// Every ordinary byte of a bulk stream arrives, also what is behind the last urgent one.
func TestUrgentDataInABulkStream(t *testing.T) {
	for range 20 {
		s := newScene(t, time.Minute)
		piece := bytes.Repeat([]byte("."), 200_000)
		const pieces = 20
		go func() {
			for range pieces {
				s.client.Write(piece)
				shout(t, s.client, '!')
			}
			s.client.Write([]byte("end"))
			s.client.CloseWrite()
		}()
		got, err := s.receive(s.backend)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(got, []byte(".")); n != pieces*len(piece) || !bytes.HasSuffix(got, []byte("end")) {
			t.Fatalf("the backend got %d bytes (%d ordinary ones of %d), and %q at the end", len(got), n, pieces*len(piece), got[max(0, len(got)-5):])
		}
		s.backend.Close()
		if r := s.end(); r.Reason != observe.OK || r.In != int64(len(got)) {
			t.Errorf("result %+v", r)
		}
	}
}
