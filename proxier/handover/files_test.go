package handover

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"

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
	if now := len(openFiles()); f.Len() != 0 || now != before+len(fds) {
		t.Errorf("%d files are left, open are %d of %d", f.Len(), now, before+len(fds))
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
