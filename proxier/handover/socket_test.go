package handover

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns the two ends of a connection, with a deadline.
func pair(t testing.TB, patience time.Duration) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		if ends[i], err = unixConn(fd); err != nil {
			t.Fatal(err)
		}
		ends[i].SetDeadline(time.Now().Add(patience))
	}
	t.Cleanup(func() { ends[0].Close(); ends[1].Close() })
	return ends[0], ends[1]
}

func throughSocket(t testing.TB, p Parcel) (*Parcel, error) {
	a, b := pair(t, 10*time.Second)
	defer a.Close()
	defer b.Close()
	sent := make(chan error, 1)
	go func() { sent <- Send(a, p) }()
	got, err := Receive(b)
	return got, errors.Join(err, <-sent)
}

func TestSendAndReceive(t *testing.T) {
	for _, n := range []int{0, 1, 2, 252, 253, 254, 506, 5000} {
		fds := sockets(t, n)
		p := Parcel{State: bytes.Repeat([]byte("state"), n), Files: fds}
		begin := time.Now()
		got, err := throughSocket(t, p)
		if err != nil {
			t.Fatalf("%d files: %v", n, err)
		}
		t.Logf("%d files: %v", n, time.Since(begin))
		if !bytes.Equal(got.State, p.State) || !slices.Equal(cookies(t, got.Files), cookies(t, fds)) {
			t.Errorf("%d files: not what was sent", n)
		}
		if n := inheritable(got.Files); n > 0 {
			t.Errorf("%d files are not CLOEXEC", n)
		}
		closeAll(got.Files)
	}
}

// What follows a Parcel on the connection is left for whoever reads next.
func TestReceiveReadsNoFurther(t *testing.T) {
	a, b := pair(t, 10*time.Second)
	if err := errors.Join(Send(a, Parcel{Files: sockets(t, 3)}), a.SetDeadline(time.Time{})); err != nil {
		t.Fatal(err)
	}
	a.Write([]byte("what else"))
	a.CloseWrite()
	p, err := Receive(b)
	if err != nil {
		t.Fatal(err)
	}
	closeAll(p.Files)
	if rest, err := io.ReadAll(b); string(rest) != "what else" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// Whatever a peer sends, Receive ends with an error by the deadline and keeps no file.
func TestReceiveFromOddPeers(t *testing.T) {
	fds := sockets(t, 600)
	memfd, err := pack(Parcel{Files: fds})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(memfd)
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	send := func(a *net.UnixConn, messages ...[]int) {
		for _, m := range messages {
			sendRights(a, m)
		}
	}
	for _, c := range []struct {
		name string
		peer func(a *net.UnixConn)
		want []string
	}{
		{"says nothing", func(*net.UnixConn) {}, []string{"receive a parcel", "i/o timeout"}},
		{"leaves at once", func(a *net.UnixConn) { a.Close() }, []string{"receive a parcel: the peer has ended"}},
		{"speaks HTTP", func(a *net.UnixConn) { a.Write([]byte("GET / HTTP/1.1\r\n")) }, []string{"other files than the 1 that were due"}},
		{"sends a file on disk", func(a *net.UnixConn) { send(a, []int{int(plain.Fd())}) }, []string{"not in a sealed memfd"}},
		{"sends a socket", func(a *net.UnixConn) { send(a, fds[:1]) }, []string{"not in a sealed memfd"}},
		{"sends too many", func(a *net.UnixConn) { send(a, fds[:5]) }, []string{"other files than the 1"}},
		{"stops midway", func(a *net.UnixConn) { send(a, []int{memfd}, fds[:253]) }, []string{"receive files, after 253 of 600", "i/o timeout"}},
		{"leaves midway", func(a *net.UnixConn) { send(a, []int{memfd}, fds[:253], fds[253:506]); a.Close() }, []string{"after 506 of 600: the peer has ended"}},
		{"sends fewer", func(a *net.UnixConn) { send(a, []int{memfd}, fds[:252]) }, []string{"after 0 of 600", "other files than the 253"}},
		{"sends more at the end", func(a *net.UnixConn) { send(a, []int{memfd}, fds[:253], fds[253:506], fds[400:600]) }, []string{"after 506 of 600", "other files than the 94"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, 300*time.Millisecond)
			before := len(openFiles())
			c.peer(a)
			p, err := Receive(b)
			wantError(t, err, c.want...)
			a.Close()
			b.Close()
			if after := len(openFiles()); p != nil || after > before {
				t.Errorf("a parcel: %v; %d files, before %d", p != nil, after, before)
			}
		})
	}
}

// A limit of open files that is too low is told, and nothing is kept.
func TestReceiveWithoutRoom(t *testing.T) {
	a, b := pair(t, 10*time.Second)
	if err := Send(a, Parcel{Files: sockets(t, 200)}); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = uint64(len(openFiles())) + 100
	unix.Setrlimit(unix.RLIMIT_NOFILE, &low)
	_, err := Receive(b)
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	wantError(t, err, "raise the limit of open files (RLIMIT_NOFILE)")
}

// A peer that does not read is waited for until the deadline.
func TestSendToOneThatDoesNotRead(t *testing.T) {
	a, _ := pair(t, 300*time.Millisecond)
	fds := sockets(t, 1)
	for { // fill the socket
		if err := sendRights(a, fds); err != nil {
			break
		}
	}
	a.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if err := Send(a, Parcel{Files: fds}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
