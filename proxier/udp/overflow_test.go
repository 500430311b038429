package udp

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/test/netns"
)

// overflow fills the Socket's queue while nobody reads, and then some, and waits
// until it is read. It returns how many datagrams were sent.
func (l *lab) overflow(c *client) (sent int) {
	l.t.Helper()
	release := l.hold()
	for range l.queueSize()/1000 + 100 { // each takes more than it has bytes
		c.send(noise(1000))
		sent++
	}
	release()
	eventually(l.t, "an empty queue", func() bool {
		next, err := unix.IoctlGetInt(l.socket.readers[0].fd, unix.SIOCINQ)
		return err == nil && next == 0
	})
	l.settle()
	return sent
}

// queueSize is what the queue has room for, as the kernel counts.
func (l *lab) queueSize() int {
	l.t.Helper()
	size, err := unix.GetsockoptInt(l.socket.readers[0].fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	must(l.t, err)
	return size
}

// What the kernel had no room for is counted as soon as something comes after it.
func TestAnOverflowIsCounted(t *testing.T) {
	l := newLab(t, setup{})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	flooding, other := l.client(), l.client()
	for round := range 2 { // the kernel's counter goes on
		before, _ := l.passed()
		lost := l.count(observe.DropQueue)
		sent := l.overflow(flooding)
		netns.Eventually(t, fmt.Sprint("count, round ", round), func() error {
			other.send("the next one")
			sent++
			l.settle()
			now, _ := l.passed()
			if passed, lost := now-before, l.count(observe.DropQueue)-lost; passed+lost != sent {
				return fmt.Errorf("%d were passed on, %d lost, of %d", passed, lost, sent)
			}
			return nil
		})
		if l.count(observe.DropQueue) == lost {
			t.Error("all of it had room: this tests nothing")
		}
	}
}

// After an overflow only a few newcomers are let in with each batch, so that who is
// known loses nothing. It does not last.
func TestAnOverflowShedsNewcomers(t *testing.T) {
	l := newLab(t, setup{})
	flooding, known := l.client(), l.client()
	must(t, l.socket.Serve(&choice{l.account, map[netip.AddrPort]netip.AddrPort{flooding.addr(): mute(t, "127.0.0.1").addr}, echo(t, "127.0.0.1").addr}))
	known.ask("hello")
	l.overflow(flooding)

	const many = 20
	release := l.hold()
	known.send("1")
	var newcomers []*client
	for range many {
		newcomers = append(newcomers, l.client())
		newcomers[len(newcomers)-1].send("hello")
	}
	known.send("2")
	before := l.sessions()
	release()
	for _, want := range []string{"1", "2"} {
		if got := known.hear(); got != want {
			t.Errorf("a known client hears %q instead of %q", got, want)
		}
	}
	eventually(t, "all of the batch", func() bool { return l.sessions()-before+l.count(observe.DropSessionLimit) == many })
	if admitted := l.sessions() - before; admitted != shedMost {
		t.Errorf("%d newcomers are admitted", admitted)
	}
	for range shedMost {
		if got, err := newcomers[0].hearOr(patience); got != "hello" {
			t.Errorf("a newcomer that was admitted hears %q, %v", got, err)
		}
		newcomers = newcomers[1:]
	}
	eventually(t, "all of a batch of newcomers", func() bool {
		before := l.sessions()
		release := l.hold()
		for range 2 * shedMost {
			l.client().send("hello")
		}
		release()
		eventually(t, "the batch", func() bool {
			l.settle()
			return l.sessions()+l.count(observe.DropSessionLimit)-many >= before
		})
		return l.sessions()-before == 2*shedMost
	})
}
