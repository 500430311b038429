package netns

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// leakPatience is how long what a test stopped may take to be gone.
const leakPatience = 5 * time.Second

// An inventory is what the process had at one moment.
type inventory struct {
	goroutines map[string]string // stack by number
	fds        map[string]string // what it refers to, by number
}

func takeInventory() inventory {
	startPoller()
	return inventory{goroutines: goroutines(), fds: fds()}
}

// startPoller makes the runtime open its poller, whose descriptors stay.
func startPoller() {
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
}

// leaks describes what the process has more than in before, once nothing more goes away.
func (before inventory) leaks() []string {
	http.DefaultClient.CloseIdleConnections()
	deadline := time.Now().Add(leakPatience)
	for {
		left := before.left()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(pollInterval)
	}
}

func (before inventory) left() []string {
	var left []string
	for id, stack := range goroutines() {
		// os/signal keeps one goroutine for ever.
		if _, known := before.goroutines[id]; !known && !strings.Contains(stack, "os/signal.loop") {
			left = append(left, stack)
		}
	}
	for fd, target := range fds() {
		if before.fds[fd] != target {
			left = append(left, fmt.Sprintf("fd %s: %s", fd, target))
		}
	}
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != unix.ECHILD {
		left = append(left, "a child process")
	}
	return left
}

// goroutines returns the stack of every goroutine by its number.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	stacks := map[string]string{}
	for stack := range bytes.SplitSeq(buf, []byte("\n\n")) {
		// goroutine 7 [IO wait]:
		fields := strings.Fields(string(stack))
		stacks[fields[1]] = string(stack)
	}
	return stacks
}

// fds returns what every open descriptor refers to.
func fds() map[string]string {
	fds := map[string]string{}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		// The one that lists the directory is closed by now.
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			fds[e.Name()] = target
		}
	}
	return fds
}
