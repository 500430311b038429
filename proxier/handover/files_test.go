package handover

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFiles(t *testing.T) {
	before := len(openFiles())
	fds := sockets(t, 4)
	names := cookies(t, fds)
	var dups []int
	for _, fd := range append(fds, fds[0]) { // one of them twice
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		dups = append(dups, dup)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	end, err := unix.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	w.Close()

	f := NewFiles(append(dups, end))
	if f.Len() != 4 {
		t.Errorf("%d files", f.Len())
	}
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("what is no socket is still open")
	}
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if fd, ok := f.Take(names[1]); ok {
				taken.Add(1)
				if c, err := Cookie(fd); c != names[1] {
					t.Errorf("cookie %d, %v; want %d", c, err, names[1])
				}
				unix.Close(fd)
			}
		})
	}
	all.Wait()
	if taken.Load() != 1 {
		t.Errorf("taken %d times", taken.Load())
	}
	if _, ok := f.Take(0); ok {
		t.Error("there is a cookie 0")
	}
	f.Close()
	if f.Len() != 0 {
		t.Errorf("%d files are left", f.Len())
	}
	eventually(t, "all else is closed", func() bool { return len(openFiles()) == before+len(fds) })
}

// eventually waits until something is so that happens beside.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(5 * time.Second); !is(); runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatalf("not so: %s", what)
		}
	}
}

func TestCookieOfWhatIsNoSocket(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, err = Cookie(int(null.Fd()))
	wantError(t, err, "SO_COOKIE of file", "on non-socket")
}

// Instances of inotify, and TUN interfaces, are slow to close, so the next process does it.
func TestSlowToClose(t *testing.T) {
	before := SlowToClose()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	slow := []int{fd}
	if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil { // there are machines without
		slow = append(slow, fd)
	}
	if got := SlowToClose(); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(append(before, slow...)))) {
		t.Errorf("%v are slow to close, before %v, and now %v", got, before, slow)
	}
	f := NewFiles(append(sockets(t, 2), slow...))
	defer f.Close()
	if f.Len() != 2 {
		t.Errorf("%d sockets are there", f.Len())
	}
	eventually(t, "it is closed", func() bool { return len(SlowToClose()) == len(before) })
}
