package udp

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// onlyFrom1 lets datagrams from 127.0.0.1 pass, and no others.
func onlyFrom1(fd int) error {
	const network = 0xfff00000 // SKF_NET_OFF: the IP header
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: network + 12}, // the source
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 127<<24 | 1, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
		{Code: unix.BPF_RET | unix.BPF_K},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// TestFilter has a filter hide some clients. Nobody gets anything of them, whether
// the Socket served before or begins to.
func TestFilter(t *testing.T) {
	for _, order := range []string{"before it serves", "while it serves"} {
		t.Run(order, func(t *testing.T) {
			l := newLab(t, setup{loops: 2, readers: 2})
			b := echo(t, "127.0.0.1")
			if order == "while it serves" {
				l.serve(b.addr)
			}
			must(t, l.socket.Filter(onlyFrom1))
			l.serve(b.addr)
			hidden, seen := l.clientFrom("127.0.0.2"), l.clientFrom("127.0.0.1")
			hidden.send("from a hidden one")
			for range 10 {
				if got := seen.ask("hello"); got != "hello" {
					t.Errorf("the client hears %q", got)
				}
			}
			l.settle()
			if in, _ := l.passed(); in != 10 || l.sessions() != 1 {
				t.Errorf("%d datagrams were passed on by %d sessions", in, l.sessions())
			}
			l.socket.Refuse()
			l.serve(b.addr) // with new files
			hidden.send("from a hidden one")
			seen.insist("hello again")
			l.settle()
			if l.sessions() != 1 {
				t.Errorf("%d sessions", l.sessions())
			}
		})
	}
}

// What a filter hides is not what the kernel had no room for, though it counts both
// as one: it neither is told as such nor keeps newcomers out.
func TestWhatAFilterHidesIsNoOverflow(t *testing.T) {
	l := newLab(t, setup{})
	l.serve(echo(t, "127.0.0.1").addr)
	must(t, l.socket.Filter(onlyFrom1))
	hidden := l.clientFrom("127.0.0.2")
	known := l.client()
	known.ask("hello")
	release := l.hold()
	for range 50 {
		hidden.send("from a hidden one")
	}
	known.send("hello again")
	var newcomers []*client
	for range 2 * shedMost {
		c := l.client()
		c.send("hello")
		newcomers = append(newcomers, c)
	}
	release()
	known.hear()
	for _, c := range newcomers {
		if got, err := c.hearOr(patience); got != "hello" {
			t.Fatalf("a newcomer hears %q, %v; drops %q", got, err, l.dropped())
		}
	}
	if l.dropped() != "" {
		t.Errorf("drops %q", l.dropped())
	}

	for range 50 {
		hidden.send("from a hidden one")
	}
	must(t, l.socket.Filter(everybody)) // from now on it counts what is lost
	for range 3 {
		known.ask("hello")
	}
	if l.dropped() != "" {
		t.Errorf("drops %q without the filter", l.dropped())
	}
	l.overflow(hidden)
	known.insist("hello") // the queue may still be full
	if l.count(observe.DropQueue) == 0 {
		t.Error("without a filter an overflow is not told")
	}
}

func everybody(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}
