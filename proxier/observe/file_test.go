package observe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// open opens a File in a folder of the test's own.
func open(t *testing.T, size int64, files int) (f *File, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "usher.log")
	f, err := OpenFile(path, size, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, path
}

// write writes a line that must succeed.
func write(t *testing.T, f *File, line string) {
	t.Helper()
	if n, err := f.Write([]byte(line + "\n")); err != nil || n != len(line)+1 {
		t.Fatalf("%s: %d bytes, %v", line, n, err)
	}
}

// has checks the lines of a file; "-": there is none.
func has(t *testing.T, path string, lines ...string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		content = []byte("-\n")
	}
	if got, want := string(content), strings.Join(append(lines, ""), "\n"); got != want {
		t.Errorf("%s has %q, want %q", filepath.Base(path), got, want)
	}
}

func TestFileRotates(t *testing.T) {
	f, path := open(t, 20, 2)
	for i := range 10 {
		write(t, f, fmt.Sprintf("line %04d", i)) // two are 20 bytes
	}
	has(t, path, "line 0008", "line 0009")
	has(t, path+".1", "line 0006", "line 0007")
	has(t, path+".2", "line 0004", "line 0005")
	has(t, path+".3", "-")
	write(t, f, strings.Repeat("x", 50)) // is more than fits, and is not lost
	write(t, f, "after")
	has(t, path, "after")
	has(t, path+".1", strings.Repeat("x", 50))
	f.Close()
	if _, err := f.Write([]byte("late\n")); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// A file that is there is continued, and counts. Fewer files are kept than before.
func TestFileIsContinued(t *testing.T) {
	f, path := open(t, 20, 4)
	for i := range 10 {
		write(t, f, fmt.Sprintf("line %04d", i))
	}
	f.Close()
	f, err := OpenFile(path, 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write(t, f, "new")
	has(t, path, "new")
	has(t, path+".1", "line 0008", "line 0009")
	for _, n := range []string{".2", ".3", ".4"} {
		has(t, path+n, "-")
	}
}

func TestFileWithoutOldOnes(t *testing.T) {
	f, path := open(t, 10, 0)
	write(t, f, "line one")
	write(t, f, "line two")
	has(t, path, "line two")
	has(t, path+".1", "-")
}

func TestFileWithoutLimit(t *testing.T) {
	f, path := open(t, 0, 3)
	for range 1000 {
		write(t, f, "a line of some length")
	}
	has(t, path+".1", "-")
}

func TestModeOfFile(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	f, path := open(t, 10, 1)
	write(t, f, "line one")
	write(t, f, "line two")
	for _, name := range []string{path, path + ".1"} {
		if info, err := os.Stat(name); err != nil || info.Mode() != 0o640 {
			t.Errorf("%s: %v (%v)", name, info.Mode(), err)
		}
	}
}

// logrotate moves the file, and tells nobody; then somebody removes its folder for a while.
func TestSomebodyElseMovesTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path := open(t, FileSize, Files)
		write(t, f, "one")
		os.Rename(path, path+".moved")
		write(t, f, "two") // within a second it is not noticed
		time.Sleep(fileLook)
		write(t, f, "three")
		has(t, path+".moved", "one", "two")
		has(t, path, "three")

		os.Rename(path, path+".again")
		if err := os.WriteFile(path, nil, 0o600); err != nil { // as logrotate does, too
			t.Fatal(err)
		}
		time.Sleep(fileLook)
		write(t, f, "its file")
		has(t, path, "its file")

		os.RemoveAll(filepath.Dir(path))
		time.Sleep(fileLook)
		if _, err := f.Write([]byte("lost\n")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without a folder: %v", err)
		}
		if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fileLook)
		write(t, f, "four")
		has(t, path, "four")
	})
}

// logrotate copies the file and empties it (copytruncate).
func TestSomebodyElseEmptiesTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path := open(t, 20, 1)
		write(t, f, "line 0001")
		write(t, f, "line 0002")
		os.Truncate(path, 0)
		time.Sleep(fileLook)
		write(t, f, "line 0003")
		has(t, path, "line 0003")
		has(t, path+".1", "-")
	})
}

// If it cannot be rotated it grows, and that is told; it is tried again.
func TestFileCannotBeRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path := open(t, 10, 1)
		if err := os.MkdirAll(filepath.Join(path+".1", "full"), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, f, "line one")
		var told []error
		sink := NewSink("file", f, func(err error, lost uint64) { told = append(told, err) })
		sink.Write([]byte("line two\n"))
		sink.Write([]byte("line three\n"))
		has(t, path, "line one", "line two", "line three")
		if len(told) != 1 || sink.Lost() != 0 {
			t.Errorf("told %v, lost %d", told, sink.Lost())
		}
		os.RemoveAll(path + ".1")
		time.Sleep(fileLook)
		write(t, f, "line four")
		has(t, path, "line four")
	})
}

// A small disk is full, traffic or not: no line is there in part, and writing goes on when
// there is room.
func TestDiskIsFull(t *testing.T) {
	folder := t.TempDir()
	if err := unix.Mount("usher", folder, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount a small tmpfs: %v", err)
	}
	defer unix.Unmount(folder, unix.MNT_DETACH)
	path := filepath.Join(folder, "usher.log")
	f, err := OpenFile(path, FileSize, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log := written(NewSink("file", f, nil))
	o, m, _ := watched(log)
	storm(o, m, 1000, ClientReset)
	running(log)()
	if log.Lost() == 0 || log.Written() == 0 || log.Lost()+log.Written() != 1000 {
		t.Errorf("%d written, %d lost", log.Written(), log.Lost())
	}
	content, _ := os.ReadFile(path)
	if n := bytes.Count(content, newline); uint64(n) != log.Written() || !bytes.HasSuffix(content, newline) {
		t.Errorf("%d lines of %d bytes, %d written", n, len(content), log.Written())
	}
	before := log.Written()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	storm(o, m, 10, OK)
	running(log)()
	if n := log.Written() - before; n != 10 {
		t.Errorf("with room again %d of 10 are written", n)
	}
	onlyWhole(t, path)
}

// onlyWhole checks that each line is a whole one.
func onlyWhole(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(content) {
		if !bytes.HasPrefix(line, []byte("{")) || !bytes.HasSuffix(line, []byte("}\n")) {
			t.Errorf("a line is %q", line)
		}
	}
}

func TestFilesThatCannotBe(t *testing.T) {
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		folder:                             "is a directory",
		pipe:                               "a pipe that nobody reads",
		filepath.Join(folder, "no", "log"): "no such file or directory",
	} {
		if _, err := OpenFile(path, FileSize, Files); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
