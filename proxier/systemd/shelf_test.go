package systemd

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// store does what systemd does with messages.
type store struct {
	mu    sync.Mutex
	names map[string]int
	wiped []string // names that were removed while something had them
}

func newStore(t *testing.T) *store {
	m, s := newManager(t, filepath.Join(t.TempDir(), "notify")), &store{names: map[string]int{}}
	go func() {
		text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*maxFiles))
		for {
			n, oobn, _, _, err := m.conn.ReadMsgUnix(text, rights)
			if err != nil {
				return
			}
			s.take(string(text[:n]))
			controls, _ := unix.ParseSocketControlMessage(rights[:oobn])
			for _, c := range controls {
				fds, _ := unix.ParseUnixRights(&c)
				for _, fd := range fds {
					unix.Close(fd)
				}
			}
		}
	}()
	return s
}

func (s *store) take(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	verb, rest, _ := strings.Cut(message, "\n")
	name, _, _ := strings.Cut(strings.TrimPrefix(rest, "FDNAME="), "\n")
	switch verb {
	case "FDSTORE=1":
		s.names[name]++
	case "FDSTOREREMOVE=1":
		if s.names[name] > 0 {
			s.wiped = append(s.wiped, name)
		}
		delete(s.names, name)
	}
}

// now is what is there, and what was removed.
func (s *store) now() (names map[string]int, wiped []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.names), slices.Clone(s.wiped)
}

// awaits waits until exactly these names are there, each once, and a table.
func (s *store) awaits(t *testing.T, shelf *Shelf, keep func(), ids ...uint64) {
	t.Helper()
	want := []string{}
	for _, id := range ids {
		want = append(want, KeptName(id))
	}
	slices.Sort(want)
	deadline := time.After(10 * time.Second)
	keep()
	for {
		names, _ := s.now()
		got, tables := slices.Sorted(maps.Keys(names)), 0
		got = slices.DeleteFunc(got, func(name string) bool {
			if IsTable(name) {
				tables += names[name]
				return true
			}
			return false
		})
		if slices.Equal(got, want) && tables == 1 {
			return
		}
		select {
		case <-shelf.Again():
			keep()
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("the store has %q and %d tables, want %q", got, tables, want)
		}
	}
}

func someFiles(t *testing.T, from, n int) (list []Kept) {
	t.Helper()
	for i := range n {
		f, err := os.Open(os.DevNull)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		list = append(list, Kept{uint64(from + i), int(f.Fd())})
	}
	return list
}

func emptyTable() (int, error) { return unix.MemfdCreate("table", unix.MFD_CLOEXEC) }

// What comes is stored, what goes is removed, and there is one table all the time.
func TestShelf(t *testing.T) {
	s := newStore(t)
	shelf := NewShelf([]uint64{5}, func(err error) { t.Error(err) })
	defer shelf.Close()
	s.take("FDSTORE=1\nFDNAME=" + KeptName(5)) // of the process before
	s.take("FDSTORE=1\nFDNAME=t")
	files := someFiles(t, 10, 600)
	keep := func() { shelf.Keep(files, emptyTable) }
	ids := idsOf(files)
	s.awaits(t, shelf, keep, ids...)
	files = slices.Concat(files[:300], someFiles(t, 1000, 3))
	s.awaits(t, shelf, keep, idsOf(files)...)
	if n := len(shelf.Has()); n != 303 {
		t.Errorf("the shelf says that it has %d files", n)
	}
	if _, wiped := s.now(); slices.Contains(wiped, KeptName(20)) {
		t.Error("a file was removed that stays")
	}
	must(t, shelf.Clear())
	if left, _ := s.now(); len(left) > 0 {
		t.Errorf("after Clear there is left %v", left)
	}
	keep()
	if n := len(shelf.Has()); n > 0 {
		t.Errorf("a shelf that is closed has %d files", n)
	}
}

// A process that takes the place of another one stores nothing twice.
func TestShelfGoesOn(t *testing.T) {
	s := newStore(t)
	files := someFiles(t, 10, 100)
	before := NewShelf(nil, func(err error) { t.Error(err) })
	s.awaits(t, before, func() { before.Keep(files, emptyTable) }, idsOf(files)...)
	before.Close()
	after := NewShelf(nil, func(err error) { t.Error(err) })
	defer after.Close()
	after.Continue(before.Has())
	files = files[1:]
	s.awaits(t, after, func() { after.Keep(files, emptyTable) }, idsOf(files)...)
	names, _ := s.now()
	for name, n := range names {
		if n != 1 {
			t.Errorf("%s was stored %d times", name, n)
		}
	}
}

// There are never more names than one string of the environment has room for.
func TestShelfIsBounded(t *testing.T) {
	shelf := NewShelf(nil, func(err error) { t.Error(err) })
	var files []Kept
	for i := range 40000 {
		files = append(files, Kept{ID: uint64(i) + 1<<40})
	}
	size := 0
	for _, f := range shelf.missing(files) {
		size += len(KeptName(f.ID)) + 1
	}
	if size > 128<<10 || size < 100<<10 {
		t.Errorf("the names take %d bytes", size)
	}
}

// A manager that is gone is told of, and tried again later.
func TestShelfWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	failed := make(chan error, 10)
	shelf := NewShelf(nil, func(err error) { failed <- err })
	defer shelf.Close()
	shelf.Keep(someFiles(t, 1, 3), emptyTable)
	if err := <-failed; !errors.Is(err, unix.ENOENT) {
		t.Errorf("the error is %v", err)
	}
	shelf.work.Wait()
	if n := len(shelf.Has()); n != 0 {
		t.Errorf("the shelf says that it has %d files", n)
	}
}

// Which ends of a service are followed by another start.
func TestRestarts(t *testing.T) {
	for _, c := range []struct {
		unit Unit
		how  Ended
		want bool
	}{
		{Unit{Job: "restart", Restart: "no"}, Ended{"success", 0}, true},
		{Unit{Job: "stop", Restart: "always"}, Ended{"success", 0}, false},
		{Unit{Job: "stop", Restart: "always"}, Ended{"timeout", -1}, false},
		{Unit{Restart: "always"}, Ended{"signal", -1}, true},
		{Unit{Restart: "always"}, Ended{"success", 0}, true},
		{Unit{Restart: "always", NeverAfter: []int32{3}}, Ended{"exit-code", 3}, false},
		{Unit{Restart: "always", NeverAfter: []int32{3}}, Ended{"exit-code", 1}, true},
		{Unit{Restart: "on-failure"}, Ended{"success", 0}, false},
		{Unit{Restart: "on-failure"}, Ended{"watchdog", -1}, true},
		{Unit{Restart: "on-abnormal"}, Ended{"exit-code", 1}, false},
		{Unit{Restart: "on-abnormal"}, Ended{"watchdog", -1}, true},
		{Unit{Restart: "on-watchdog"}, Ended{"signal", -1}, false},
		{Unit{Restart: "on-success"}, Ended{"success", 0}, true},
		{Unit{Restart: "no"}, Ended{"signal", -1}, false},
	} {
		if got := c.unit.Restarts(c.how); got != c.want {
			t.Errorf("%s: restarts: %t", fmt.Sprintf("%+v after %+v", c.unit, c.how), got)
		}
	}
}
