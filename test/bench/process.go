package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

// Usage is what a program with all its processes has used and holds.
type Usage struct {
	CPU time.Duration // user and system time since the start
	RSS int64         // bytes
	PSS int64         // bytes, where [proportionalOf] was asked: pages of several processes once
	FDs int
}

// usageOf adds up the processes of a program, which leads a process group of its own. It is
// zero for nil.
func usageOf(program *netns.Cmd) (Usage, error) {
	var sum Usage
	if program == nil {
		return sum, nil
	}
	all, err := processes()
	if err != nil {
		return sum, err
	}
	found := false
	for pid, p := range all {
		if p.group != program.Process.Pid {
			continue
		}
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if hasEnded(err) {
			continue
		} else if err != nil {
			return sum, err
		}
		found = true
		sum.CPU += p.cpu
		sum.RSS += p.rss
		sum.FDs += len(fds)
	}
	if !found {
		return sum, fmt.Errorf("%s has ended", program.Path)
	}
	return sum, nil
}

// proportionalOf adds up the memory of the processes of a program, pages that several have in
// common by their shares (proc_pid_smaps(5), Pss). It is zero for nil.
func proportionalOf(program *netns.Cmd) (sum int64, err error) {
	if program == nil {
		return 0, nil
	}
	all, err := processes()
	if err != nil {
		return 0, err
	}
	for pid, p := range all {
		if p.group != program.Process.Pid {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if hasEnded(err) {
			continue
		} else if err != nil {
			return 0, err
		}
		pss, err := kibibytes(string(text), "Pss:")
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/smaps_rollup: %w", pid, err)
		}
		sum += pss
	}
	return sum, nil
}

// hasEnded tells that there is no such process any more: a program may have others do something
// for it, such as iptables-restore. A file that was opened before says so when it is read.
func hasEnded(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// kibibytes finds a line such as "Slab:  57824 kB" and returns the bytes.
func kibibytes(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == name {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no line about %s", name)
}

// A process is one of the machine's.
type process struct {
	parent, group int
	cpu           time.Duration // user and system time
	children      time.Duration // the same of all children that have ended, and theirs
	rss           int64         // bytes
}

// processes are all of the machine's by their number.
func processes() (map[int]process, error) {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		pid, p, err := parseStat(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[pid] = p
	}
	return all, nil
}

// userHZ is the unit of times in /proc, the same on all architectures that Go knows.
const userHZ = 100

// parseStat reads a line of /proc/PID/stat (proc(5)). The name, in parentheses, may contain
// anything.
func parseStat(text []byte) (pid int, p process, err error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]) // from the third on, the state
	number := func(i int) int64 {
		if i-3 >= len(fields) {
			err = errors.New("too few fields")
			return 0
		}
		n, e := strconv.ParseInt(string(fields[i-3]), 10, 64)
		err = errors.Join(err, e)
		return n
	}
	ticks := func(i int) time.Duration { return time.Duration(number(i)) * time.Second / userHZ }
	p = process{
		parent:   int(number(4)),
		group:    int(number(5)),
		cpu:      ticks(14) + ticks(15),
		children: ticks(16) + ticks(17),
		rss:      number(24) * int64(os.Getpagesize()),
	}
	first, _, _ := bytes.Cut(text, []byte(" "))
	pid, e := strconv.Atoi(string(first))
	return pid, p, errors.Join(err, e)
}
