package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv("USHER_TEST_STORED") != "" {
		printStored()
		return
	}
	os.Exit(m.Run())
}

// manager is the other end of the protocol.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T, socket string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	return &manager{t, conn}
}

// next is the next message, with the files that came along.
func (m *manager) next() (message string, files []*os.File) {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := m.conn.ReadMsgUnix(text, rights)
	if err != nil {
		m.t.Fatal(err)
	}
	controls, err := unix.ParseSocketControlMessage(rights[:oobn])
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range controls {
		fds, err := unix.ParseUnixRights(&c)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "received")
			m.t.Cleanup(func() { f.Close() })
			files = append(files, f)
		}
	}
	return string(text[:n]), files
}

func (m *manager) expect(want string) {
	m.t.Helper()
	if got, _ := m.next(); got != want {
		m.t.Errorf("systemd was told %q, want %q", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNotify(t *testing.T) {
	for name, socket := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@usher-test-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, socket)
			must(t, Notify(Ready, Status("42 Services\nREADY=0")))
			m.expect("READY=1\nSTATUS=42 Services READY=0")
			must(t, Notify(Status(strings.Repeat("ü", 4096))))
			m.expect("STATUS=" + strings.Repeat("ü", maxStatus/2) + "...")
			must(t, Notify(Stopping, ExtendTimeout(90*time.Second)))
			m.expect("STOPPING=1\nEXTEND_TIMEOUT_USEC=90000000")
			must(t, Notify(MainPID(17)))
			m.expect("MAINPID=17")
			must(t, Notify(Reloading()))
			var clock uint64
			if got, _ := m.next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
				t.Errorf("systemd was told %q", got)
			} else if _, err := fmt.Sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%d", &clock); err != nil || clock == 0 {
				t.Errorf("no time in %q: %v", got, err)
			}
		})
	}
}

func TestWithoutManagerNothingIsDone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	must(t, Notify(Ready))
	must(t, Store("l", 0))
	must(t, Remove("l"))
	must(t, Barrier(t.Context()))
}

func TestManagerThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	err := Notify(Ready)
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "tell systemd READY=1") {
		t.Errorf("the error is %v", err)
	}
}

// More files than fit into one message arrive, all of them and in order.
func TestStore(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	var fds []int
	var names []string
	dir := t.TempDir()
	for i := range 2*maxFiles + 7 {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		must(t, err)
		defer f.Close()
		fds, names = append(fds, int(f.Fd())), append(names, f.Name())
	}
	stored := make(chan error, 1)
	go func() { stored <- Store("l", fds...) }()
	var got []string
	for _, n := range []int{maxFiles, maxFiles, 7} {
		message, files := m.next()
		if message != "FDSTORE=1\nFDNAME=l\nFDPOLL=0" || len(files) != n {
			t.Errorf("systemd got %q with %d files, want %d", message, len(files), n)
		}
		for _, f := range files {
			path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
			must(t, err)
			got = append(got, path)
		}
	}
	must(t, <-stored)
	if !slices.Equal(got, names) {
		t.Errorf("other files arrived than were stored: %q", got)
	}
	must(t, Remove("l"))
	m.expect("FDSTOREREMOVE=1\nFDNAME=l")
}

func TestNamesThatSystemdWouldNotTake(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	for _, name := range []string{"", "a:b", "a\nb", "ü", strings.Repeat("x", 256)} {
		if err := Store(name, 0); err == nil {
			t.Errorf("the name %q is taken", name)
		}
		if err := Remove(name); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
	must(t, Notify(Alive))
	m.expect("WATCHDOG=1") // and nothing before
}

// Barrier returns once the manager has closed what came with it, and not before.
func TestBarrier(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	done := make(chan error, 1)
	go func() { done <- Barrier(t.Context()) }()
	message, files := m.next()
	if message != "BARRIER=1" || len(files) != 1 {
		t.Fatalf("systemd got %q with %d files", message, len(files))
	}
	select {
	case err := <-done:
		t.Fatalf("Barrier ends before systemd has answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	files[0].Close()
	must(t, <-done)
}

func TestBarrierWithManagerThatHangs(t *testing.T) {
	newManager(t, filepath.Join(t.TempDir(), "notify"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := Barrier(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
}

// printStored is what the child of TestStored does.
func printStored() {
	for range 2 {
		files, err := Stored()
		for _, f := range files {
			flags, flagsErr := unix.FcntlInt(uintptr(f.FD), unix.F_GETFD, 0)
			fmt.Printf("%d=%s closed=%t %v ", f.FD, f.Name, flags&unix.FD_CLOEXEC != 0, flagsErr)
		}
		fmt.Printf("%v;", err)
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") {
			fmt.Print(" left: " + v)
		}
	}
}

func TestStored(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	for _, c := range []struct{ name, variables, want string }{
		{"two", "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=l:u", "3=l closed=true <nil> 4=u closed=true <nil> <nil>;<nil>;"},
		{"without names", "LISTEN_PID=$$ LISTEN_FDS=1", "3= closed=true <nil> <nil>;<nil>;"},
		{"a parent's", "LISTEN_PID=1 LISTEN_FDS=2 LISTEN_FDNAMES=l:u", "<nil>;<nil>;"},
		{"none", "X=", "<nil>;<nil>;"},
		{"no number", "LISTEN_PID=$$ LISTEN_FDS=many", "LISTEN_FDS=many from the service manager is no number of files;<nil>;"},
		{"too many", "LISTEN_PID=$$ LISTEN_FDS=500", "there is no file "},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", c.variables+` exec "$0"`, self)
			cmd.Env = append(os.Environ(), "USHER_TEST_STORED=1")
			cmd.ExtraFiles = []*os.File{os.Stdin, os.Stdin}
			out, err := cmd.CombinedOutput()
			must(t, err)
			if !strings.Contains(string(out), c.want) || strings.Contains(string(out), "left") || c.name != "too many" && string(out) != c.want {
				t.Errorf("the process finds %q, want %q", out, c.want)
			}
		})
	}
}

// A manager that reads nothing costs patience, and not for ever.
func TestManagerThatDoesNotRead(t *testing.T) {
	newManager(t, filepath.Join(t.TempDir(), "notify"))
	began := time.Now()
	for range 1000 {
		if err := Notify(Alive); err != nil {
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took > 2*patience {
				t.Errorf("after %v: %v", took, err)
			}
			return
		}
	}
	t.Skip("the socket's queue has room for 1000 messages")
}
