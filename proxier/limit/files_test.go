package limit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRoomInFiles(t *testing.T) {
	for _, c := range []struct{ files, connections, waiting int }{
		{-200, 16, 0},
		{0, 16, 0},
		{32, 16, 2},
		{640, 300, 40}, // of 1024
		{19616, 9195, 1226},
		{1 << 20, 522240, 4096},
	} {
		room := RoomIn(c.files)
		if room != (Room{c.connections, c.waiting}) {
			t.Errorf("%+v in %d files, want %d and %d", room, c.files, c.connections, c.waiting)
		}
		if used := room.Connections*FilesPerConnection + room.Waiting; c.files > 128 && used > c.files {
			t.Errorf("%+v take %d of %d files", room, used, c.files)
		}
	}
}

func TestTheLimitOfFilesIsTheOneOfNow(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.Prlimit(0, unix.RLIMIT_NOFILE, &old, nil)
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 777, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	if Files() != 777 || Free(3) != 777-Reserve-3 {
		t.Errorf("%d files, %d free", Files(), Free(3))
	}
}

// serverEnv makes the test binary a server, for as many connections as it says.
const serverEnv = "USHER_LIMIT_SERVER"

// report is what the server tells when all connections were judged.
type report struct {
	Files                      int // its limit
	Before                     int // open before the first socket of a Service
	Room                       Room
	Admitted, Waiting, Refused int
	Others                     string // errors that are not that of the process being full
	Free                       int    // it can still open so many
}

// A server with few files gets more connections than it has room for, and all of them
// use as many files as they ever do. What is reserved stays free.
func TestTheReserveIsKeptWhenTheProcessIsFull(t *testing.T) {
	for _, hard := range []int{512, 1024, 4000} {
		t.Run(fmt.Sprint(hard), func(t *testing.T) {
			r := flood(t, hard, 1000+hard/2)
			t.Logf("%+v", r)
			if r.Files != hard-1 {
				t.Errorf("a limit of %d files; the Go runtime raises it to one less than the hard limit of %d", r.Files, hard)
			}
			if r.Others != "" || r.Admitted != r.Room.Connections || r.Waiting != r.Room.Waiting || r.Refused == 0 {
				t.Errorf("%d are admitted, %d wait, %d are refused; want %+v; errors: %s", r.Admitted, r.Waiting, r.Refused, r.Room, r.Others)
			}
			if r.Free < Reserve-r.Before {
				t.Errorf("%d files are free and %d are used beside the connections, the reserve is %d", r.Free, r.Before, Reserve)
			}
		})
	}
}

// Too few files for connections: some of the reserve is left nevertheless.
func TestFewFilesLeaveAPartOfTheReserve(t *testing.T) {
	r := flood(t, Reserve+14, 100)
	if r.Others != "" || r.Admitted != fewestConnections || r.Waiting != 0 {
		t.Errorf("%+v", r)
	}
	if least := Reserve - fewestConnections*FilesPerConnection - r.Before; r.Free < least {
		t.Errorf("%d files are free, want %d", r.Free, least)
	}
}

// flood starts a server with a soft limit of 100 files and a hard one, and connects
// to it.
func flood(t *testing.T, hard, connections int) (r report) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `ulimit -S -n 100 && ulimit -H -n "$1" && exec "$0"`, self, strconv.Itoa(hard))
	cmd.Env = append(os.Environ(), serverEnv+"="+strconv.Itoa(connections))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	end, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer end.Close()
	answers := json.NewDecoder(out)
	var at string
	if err := answers.Decode(&at); err != nil {
		t.Fatal(err)
	}
	for range connections {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if err := answers.Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// serve is the server. It holds every connection until its input ends.
func serve() {
	connections, _ := strconv.Atoi(os.Getenv(serverEnv))
	before := openFiles()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	exitOn(err)
	whole := NewWhole(func() Room { return RoomIn(Free(1)) })
	gate := NewGate(Limits{Wait: time.Hour}, whole)
	json.NewEncoder(os.Stdout).Encode(listener.Addr().String())

	var refused atomic.Int64
	var others atomic.Value
	judged := make(chan struct{}, connections)
	unjudged := make(chan struct{}, 64)
	for range connections {
		unjudged <- struct{}{}
		conn, err := listener.Accept()
		exitOn(err)
		go func() {
			done := sync.OnceFunc(func() { <-unjudged })
			defer done()
			_, err := gate.Enter(judging{context.Background(), done}, addr(1))
			var exceeded *Exceeded
			if errors.As(err, &exceeded) && exceeded.Limit == Process {
				conn.Close()
				refused.Add(1)
			} else if err = errors.Join(err, useFiles()); err != nil {
				others.Store(err.Error())
			}
			judged <- struct{}{}
		}()
	}
	for n := 0; n+whole.Waiting() < connections; {
		select {
		case <-judged:
			n++
		case <-time.After(time.Millisecond): // who waits tells nobody
		}
	}
	r := report{Files: Files(), Before: before, Room: RoomIn(Free(1)),
		Admitted: whole.Len(), Waiting: whole.Waiting(), Refused: int(refused.Load()), Free: freeFiles()}
	r.Others, _ = others.Load().(string)
	json.NewEncoder(os.Stdout).Encode(r)
	io.Copy(io.Discard, os.Stdin)
}

// judging tells when somebody is about to wait.
type judging struct {
	context.Context
	done func()
}

func (j judging) Done() <-chan struct{} {
	j.done()
	return j.Context.Done()
}

// useFiles opens what a connection needs beside the client's socket.
func useFiles() error {
	_, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	return err
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	exitOn(err)
	return len(entries)
}

// freeFiles is how many files can still be opened.
func freeFiles() (n int) {
	for {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			return n
		}
		n++
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}
