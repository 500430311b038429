package handover

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"golang.org/x/sys/unix"
)

// roleEnv makes the test binary play a program that hands over, or takes over.
const roleEnv = "USHER_TEST_HANDOVER"

var roles = map[string]func(){
	"leave":  leave,
	"arrive": arrive,
	"forged": func() { _, err := Received(); tell(report{Err: fmt.Sprint(err), Kept: openFiles()}) },

	"good":        func() { receiveOrDie(); say(Good()) },
	"good twice":  func() { receiveOrDie(); say(Good()); say(Good()) },
	"good unread": func() { say(Good()) },
	"bad":         func() { receiveOrDie(); fail("cannot decode the state:\n\ttoo \x1b[31mold") },
	"silent":      func() { receiveOrDie() },
	"unread":      func() {},
	"hang":        func() { receiveOrDie(); fmt.Fprintln(os.Stderr, "waiting"); hang() },
	"hang unread": hang,
	"good, hang":  func() { receiveOrDie(); say(Good()); hang() },
	"closes":      func() { unix.Close(firstFile); hang() },
	"chatter":     chatter,
	"parent":      parent,
	"crash":       func() { receiveOrDie(); unix.Kill(os.Getpid(), unix.SIGKILL); hang() },
}

func TestMain(m *testing.M) {
	if role, told := os.LookupEnv(roleEnv); told {
		roles[role]()
		return
	}
	netns.Main(m)
}

func receiveOrDie() *Parcel {
	p, err := Received()
	say(err)
	if !InTrial() || os.Getenv(trialEnv) != "" {
		fail("this should be a trial, and nothing should tell of it")
	}
	return p
}

func say(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(1)
}

func hang() { time.Sleep(time.Hour) }

func chatter() {
	receiveOrDie()
	line := strings.Repeat("la", 500)
	for range 4000 { // 4 MB
		fmt.Println(line)
		fmt.Fprintln(os.Stderr, line)
	}
	fail("that was all")
}

// parent hangs with a child of its own.
func parent() {
	receiveOrDie()
	child := exec.Command("/proc/self/exe")
	child.Env = []string{roleEnv + "=hang unread"}
	child.Stderr = os.Stderr
	say(child.Start())
	fmt.Fprintln(os.Stderr, "child", child.Process.Pid)
	hang()
}

// report is what a process tells the test of a hand-over.
type report struct {
	Err     string
	PID     int
	Files   int           // that came
	Taken   int           // of those that the state names
	Inherit int           // that are not CLOEXEC
	Env     bool          // still tells of the hand-over
	Again   bool          // Received returned something a second time
	NoFile  uint64        // soft limit of open files
	Ignored string        // signals, in hex
	Blocked string        // of the main thread
	Hups    int           // that came
	Pause   time.Duration // from before Exec to after Received
	Kept    []string      // files that are open
}

// letter is the state that leave hands over.
type letter struct {
	Cookies []uint64
	PID     int
	NoFile  uint64
	Left    int64 // CLOCK_MONOTONIC in ns
	Filler  []byte
}

// leave opens as many sockets as its argument says and executes itself in the role
// that its environment says.
func leave() {
	n, err := strconv.Atoi(os.Args[1])
	say(err)
	l := letter{PID: os.Getpid(), NoFile: softLimit(), Filler: make([]byte, 5<<20)}
	var fds []int
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		say(err)
		cookie, err := Cookie(fd)
		say(err)
		fds, l.Cookies = append(fds, fd), append(l.Cookies, cookie)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	l.Left = now()
	state, err := json.Marshal(l)
	say(err)
	left := strconv.FormatInt(now(), 10)
	say(Exec(self(), []string{"arrive", left}, []string{roleEnv + "=arrive"}, Parcel{State: state, Files: fds}))
}

func arrive() {
	p, err := Received()
	r := report{Err: fmt.Sprint(err), PID: os.Getpid(), NoFile: softLimit(),
		Ignored: status("SigIgn"), Blocked: status("SigBlk")}
	if p != nil {
		left, _ := strconv.ParseInt(os.Args[1], 10, 64)
		r.Pause = time.Duration(now() - left)
		var l letter
		say(json.Unmarshal(p.State, &l))
		if l.PID != r.PID || l.NoFile != r.NoFile {
			r.Err = fmt.Sprintf("pid %d, limit %d; the process before had %d, %d", r.PID, r.NoFile, l.PID, l.NoFile)
		}
		r.Inherit = inheritable(p.Files)
		files := NewFiles(p.Files)
		r.Files = files.Len()
		for _, c := range l.Cookies {
			if _, ok := files.Take(c); ok {
				r.Taken++
			}
		}
	}
	_, r.Env = os.LookupEnv(execEnv)
	again, err := Received()
	r.Again = again != nil || err != nil

	unix.Kill(os.Getpid(), unix.SIGHUP) // ignored so far
	hups := make(chan os.Signal, 2)
	signal.Notify(hups, unix.SIGHUP)
	unix.Kill(os.Getpid(), unix.SIGHUP)
	<-hups
	r.Hups = 1 + len(hups)
	tell(r)
}

func tell(r report) { say(json.NewEncoder(os.Stdout).Encode(r)) }

func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

func now() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

func softLimit() uint64 {
	var l unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return l.Cur
}

func status(key string) string {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func inheritable(fds []int) (n int) {
	for _, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			n++
		}
	}
	return n
}

// openFiles lists the sockets and memfds that the process has.
func openFiles() (open []string) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && (strings.HasPrefix(target, "socket:") || strings.Contains(target, "memfd:")) {
			open = append(open, e.Name()+" "+target)
		}
	}
	slices.Sort(open)
	return open
}

// sockets makes n sockets that end with the test.
func sockets(t testing.TB, n int) []int {
	t.Helper()
	var fds []int
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	t.Cleanup(func() { closeAll(fds) })
	return fds
}

func cookies(t testing.TB, fds []int) []uint64 {
	t.Helper()
	var all []uint64
	for _, fd := range fds {
		c, err := Cookie(fd)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// wantError checks an error's text.
func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %q, want one with %q", fmt.Sprint(err), w)
		}
	}
}
