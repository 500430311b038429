package dial

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// noMoreFiles keeps this process from opening any file.
func noMoreFiles(t *testing.T) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}))
	restore = func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }
	t.Cleanup(restore)
	return restore
}

// faulty makes the first attempts fail, and the later ones in earnest.
func faulty(d *Dialer, errs ...error) {
	inEarnest := d.connect
	calls := 0
	d.connect = func(ctx context.Context, t tcp.Target, limit time.Time) (*tcp.Conn, error) {
		if calls++; calls <= len(errs) {
			return nil, errs[calls-1]
		}
		return inEarnest(ctx, t, limit)
	}
}

// Files are lacking until the sixth try.
func TestOutOfFilesForAMoment(t *testing.T) {
	for name, hedge := range map[string]time.Duration{"one by one": 0, "hedged": patience} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			l := newLab(t, b.addr)
			restore := noMoreFiles(t)
			c := l.call(Retry{Attempts: 1, Timeout: time.Second, Total: patience, Hedge: hedge})
			c.Budget = NewTokens(Budget{})
			tries := 0
			c.Picker = func() balancer.Picker {
				if tries++; tries == 6 {
					restore()
				}
				return l
			}
			r, err := l.do(t.Context(), c)
			restore()
			must(t, err)
			l.wantResults(r, observe.OutOfFiles, observe.OK)
			l.wantHeard(b.addr, observe.OK)
			if told := l.told(b.addr); len(told) != 6 {
				t.Errorf("picks were told %q", told)
			}
			// Five pauses of 10, 20, 40, 80 and 160 ms, or half of that.
			if files, ok := r.Attempts[0], r.Attempts[1]; files.Errno != "EMFILE" ||
				files.Duration < 75*time.Millisecond || ok.Start < 155*time.Millisecond || ok.Start > 5*time.Second {
				t.Errorf("%+v", r.Attempts)
			}
			if r.BudgetSpent {
				t.Error("the budget was asked")
			}
		})
	}
}

func TestOutOfFilesForLong(t *testing.T) {
	for name, hedge := range map[string]time.Duration{"one by one": 0, "hedged": patience} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { searchOutOfFiles(t, hedge) })
		})
	}
}

func searchOutOfFiles(t *testing.T, hedge time.Duration) {
	const total = 900 * time.Millisecond
	l := newSilentLab(t, 2)
	faulty(l.dialer, slices.Repeat([]error{os.NewSyscallError("socket", unix.EMFILE)}, 100)...)
	start := time.Now()
	r, err := l.dial(Retry{Attempts: 2, Timeout: time.Second, Total: total, Hedge: hedge})
	took := time.Since(start)
	l.wantResults(r, observe.OutOfFiles)
	if got := Outcome(r.Attempts, err); got != observe.OutOfFiles {
		t.Errorf("%s: %v", got, err)
	}
	// 10+20+40+80+160+200+200 ms are 7 pauses; drawn ones are down to half of it. It
	// ends when the next one would be too long.
	if l.picks < 8 || l.picks > 13 || took < total-longestPause || took >= total {
		t.Errorf("%d tries in %s", l.picks, took)
	}
	l.wantHeard(l.endpoints[0])
}

func TestOutOfFilesAndCancelled(t *testing.T) {
	l := newLab(t, freeAddr(t))
	restore := noMoreFiles(t)
	ctx, cancel := context.WithCancel(t.Context())
	c, tries := l.call(standard()), 0
	c.Picker = func() balancer.Picker {
		if tries++; tries == 4 {
			cancel()
		}
		return l
	}
	start := time.Now()
	r, err := l.do(ctx, c)
	restore()
	if took := time.Since(start); took > patience/2 {
		t.Errorf("it took %s", took)
	}
	if len(r.Attempts) > 1 { // one was under way
		l.wantResults(r, observe.OutOfFiles, observe.Abandoned)
	} else {
		l.wantResults(r, observe.OutOfFiles)
	}
	if got := Outcome(r.Attempts, err); got != observe.Shutdown {
		t.Errorf("%s: %v", got, err)
	}
}

// Lack of memory, lack of files and a refusal: each is told of once, only the
// last is the endpoint's.
func TestOwnFaultsAreToldOnce(t *testing.T) {
	dead, b := freeAddr(t), newBackend(t)
	l := newLab(t, dead, b.addr)
	memory, files := os.NewSyscallError("connect", unix.ENOBUFS), os.NewSyscallError("socket", unix.ENFILE)
	faulty(l.dialer, memory, memory, files, memory, unix.ECONNREFUSED, files)
	c := l.call(standard())
	c.Budget = NewTokens(Budget{PerSecond: 0.001}) // has one, for what follows on the refusal
	r, err := l.do(t.Context(), c)
	must(t, err)
	l.wantResults(r, observe.OutOfMemory, observe.OutOfFiles, observe.BackendRefused, observe.OK)
	l.wantHeard(dead, observe.BackendRefused)
	l.wantHeard(b.addr, observe.OK)
}

// One local port is all there is, and it leads to one endpoint already.
func TestOutOfPorts(t *testing.T) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	busy, b := newBackend(t), newBackend(t)
	old, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte("50000 50000"), 0))
	defer func() { must(t, os.WriteFile(file, old, 0)) }()
	taken, err := net.Dial("tcp", busy.addr.String())
	must(t, err)
	defer taken.Close()

	l := newLab(t, busy.addr, b.addr)
	retry := standard()
	retry.On = 0
	r, err := l.dial(retry)
	must(t, err)
	l.wantResults(r, observe.OutOfPorts, observe.OK)
	l.wantHeard(busy.addr)
	l.endpoints = l.endpoints[:1]
	r, err = l.dial(retry)
	if got := Outcome(r.Attempts, err); got != observe.OutOfPorts || !strings.Contains(err.Error(), busy.addr.String()) {
		t.Errorf("%s: %v", got, err)
	}
	l.wantHeard(busy.addr)
}
