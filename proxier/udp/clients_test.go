package udp

import (
	"fmt"
	"sync"
	"testing"

	"github.com/usher-proxy/usher/proxier/observe"
)

// TestClientsDoNotMix has 50 clients ask 200 times each, two at a time: each
// gets all of its own answers, in order, and nothing else.
func TestClientsDoNotMix(t *testing.T) {
	for _, with := range []setup{{loops: 1}, {loops: 2, readers: 2}} {
		t.Run(fmt.Sprint(with.readers, " readers"), func(t *testing.T) {
			const clients, rounds, window = 50, 100, 2                                    // all that is on its way fits into one queue of the endpoint
			with.limits = Limits{Sessions: 2 * clients, Idle: patience, Stream: patience} // half for one /24
			l := newLab(t, with)
			l.serve(echo(t, "127.0.0.1").addr)
			var wg sync.WaitGroup
			for i := range clients {
				c := l.client()
				wg.Go(func() { c.rounds(i, rounds, window) })
			}
			wg.Wait()
			l.settle()
			if n := l.sessions(); n != clients {
				t.Errorf("%d sessions for %d clients", n, clients)
			}
			if want := clients * rounds * window; l.in != want || l.out != want || l.dropped() != "" {
				t.Errorf("%d in, %d out, drops %q", l.in, l.out, l.dropped())
			}
		})
	}
}

// rounds asks some questions at a time, and compares the answers.
func (c *client) rounds(name, rounds, window int) {
	for round := range rounds {
		for i := range window {
			c.Write(fmt.Appendf(nil, "%d: %d", name, round*window+i))
		}
		for i := range window {
			want := fmt.Sprintf("%d: %d", name, round*window+i)
			if got, err := c.hearOr(patience); got != want {
				c.t.Errorf("client %d hears %q, %v; it awaits %q", name, got, err, want)
				return
			}
		}
	}
}

// A session is one client's address and port.
func TestAClientsSocketsAreClientsOfTheirOwn(t *testing.T) {
	l := newLab(t, setup{})
	b := echo(t, "127.0.0.1")
	l.serve(b.addr)
	seen := map[string]bool{}
	for range 3 {
		c := l.client()
		c.ask("one")
		first := b.sender(t)
		c.ask("two")
		if second := b.sender(t); second != first {
			t.Errorf("one client comes from %s and %s", first, second)
		}
		seen[first.String()] = true
	}
	if len(seen) != 3 || l.sessions() != 3 || l.relay.Len() != 3 {
		t.Errorf("three clients come from %v, %d sessions, %d in the table", seen, l.sessions(), l.relay.Len())
	}
}

// Many datagrams of a few clients wait: one batch has those of several, in turns.
func TestABatchKeepsEachClientsOrder(t *testing.T) {
	l := newLab(t, setup{})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	clients := []*client{l.client(), l.client(), l.client()}
	for _, c := range clients[:2] { // the third is a newcomer in the batch
		c.send("first")
		b.sender(t)
	}
	release := l.hold()
	const each = 40
	for i := range each {
		for name, c := range clients {
			c.send(fmt.Sprintf("%d: %d", name, i))
		}
	}
	release()
	for range each * len(clients) {
		b.sender(t)
	}
	next := map[int]int{}
	for _, got := range b.received()[2:] {
		var name, i int
		fmt.Sscanf(got, "%d: %d", &name, &i)
		if i != next[name] {
			t.Errorf("client %d: number %d comes when %d is awaited", name, i, next[name])
		}
		next[name] = i + 1
	}
	if n := l.sessions(); n != len(clients) {
		t.Errorf("%d sessions", n)
	}
}

// TestEachClientKeepsItsReader has two files read one Socket: a client always
// lands in the same one, whatever the others do.
func TestEachClientKeepsItsReader(t *testing.T) {
	l := newLab(t, setup{addr: "127.0.0.1", loops: 2, readers: 2})
	l.serve(echo(t, "127.0.0.1").addr)
	var clients []*client
	for i := range 40 {
		c := l.client()
		clients = append(clients, c)
		for _, c := range clients {
			c.ask(fmt.Sprint(i))
		}
	}
	if n := l.sessions(); n != len(clients) {
		t.Errorf("%d clients have %d sessions", len(clients), n)
	}
	for i, r := range l.socket.readers {
		n := 0
		r.do(func() { n = len(r.flows) })
		if n == 0 {
			t.Errorf("reader %d has no clients", i)
		}
	}

	l.socket.Refuse()
	clients[0].wantRefused()
	l.serve(echo(t, "127.0.0.1").addr)
	for _, c := range clients {
		c.insist("again")
	}
	l.close(observe.ServiceRemoved)
	if opened, ended := l.sessions(), len(l.ended()); opened != ended {
		t.Errorf("%d sessions were opened, %d have ended", opened, ended)
	}
}
