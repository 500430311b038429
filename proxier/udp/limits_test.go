package udp

import (
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// TestSessionsMakeRoomForOthers has many clients of many prefixes: there are
// never more sessions than allowed, of the Service port or in all, and never more
// files.
func TestSessionsMakeRoomForOthers(t *testing.T) {
	for name, with := range map[string]setup{
		"of the port": {limits: Limits{Sessions: 10, Idle: patience, Stream: patience}},
		"in all":      {limit: 10},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, with)
			l.serve(echo(t, "127.0.0.1").addr)
			var clients []*client
			for i := range 30 {
				clients = append(clients, l.clientFrom(fmt.Sprintf("127.0.%d.1", i)))
			}
			before := files(t)
			for i, c := range clients {
				c.ask("hello")
				c.ask("hello again") // now it is a conversation: the oldest one has to go
				l.settle()
				if sessions, files := l.relay.Len(), files(t)-before; sessions != min(i+1, 10) || files != sessions {
					t.Errorf("client %d: %d sessions, %d files", i, sessions, files)
				}
			}
			ended := l.ended()
			for i, s := range ended {
				if s.Client != clients[i].addr() || s.Reason != observe.Evicted || s.In != 2 || s.Out != 2 {
					t.Errorf("session %d tells %+v", i, s)
				}
			}
			if len(ended) != 20 || l.dropped() != "" {
				t.Errorf("%d have ended, drops %q", len(ended), l.dropped())
			}
			if got := clients[0].ask("back again"); got != "back again" {
				t.Errorf("who had to go hears %q", got)
			}
		})
	}
}

// More newcomers than there is room for come at once.
func TestABatchOfMoreNewcomersThanSessions(t *testing.T) {
	l := newLab(t, setup{limits: Limits{Sessions: 10, Idle: patience, Stream: patience}})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	const newcomers = 40
	release := l.hold()
	for i := range newcomers {
		l.clientFrom(fmt.Sprintf("127.0.%d.1", i)).send("hello")
	}
	release()
	l.wantDrops(fmt.Sprint("session_limit=", newcomers-10))
	for range 10 {
		b.sender(t)
	}
	l.settle()
	if l.sessions() != newcomers || l.relay.Len() != 10 || l.in != 10 {
		t.Errorf("%d sessions were opened, %d are left, %d datagrams were passed on", l.sessions(), l.relay.Len(), l.in)
	}
}

// In a batch the datagrams of known clients go first: a newcomer that takes the
// place of one of them comes too late for that.
func TestABatchOfNewcomersAndKnownClients(t *testing.T) {
	l := newLab(t, setup{limits: Limits{Sessions: 10, Idle: patience, Stream: patience}})
	known := echo(t, "127.0.0.1")
	l.serve(known.addr)
	var clients []*client
	for i := range 10 {
		c := l.clientFrom(fmt.Sprintf("127.1.%d.1", i))
		c.ask("hello")
		c.ask("hello again")
		clients = append(clients, c)
	}
	release := l.hold()
	for i := range 20 {
		l.clientFrom(fmt.Sprintf("127.2.%d.1", i)).send("a newcomer")
	}
	for _, c := range clients {
		c.send("in time")
	}
	release()
	eventually(t, "all of the known clients' datagrams", func() bool {
		n := 0
		for _, got := range known.received() {
			if got == "in time" {
				n++
			}
		}
		return n == len(clients)
	})
}

// Half of a port's sessions are the most that one prefix may have.
func TestAPrefixIsAClient(t *testing.T) {
	l := newLab(t, setup{limits: Limits{Sessions: 10, Idle: patience, Stream: patience}})
	l.serve(echo(t, "127.0.0.1").addr)
	other := l.clientFrom("127.0.1.1")
	other.ask("hello")
	for range 20 {
		l.client().ask("hello")
	}
	other.ask("hello again")
	l.settle()
	if n := l.group.Len(); n != 6 {
		t.Errorf("%d sessions", n)
	}
	for _, s := range l.ended() {
		if s.Client == other.addr() {
			t.Errorf("a client of another prefix had to go: %+v", s)
		}
	}
}

// Loops evict the sessions of each other: these are closed by their own loop.
func TestSessionsOfAnotherLoopMakeRoom(t *testing.T) {
	l := newLab(t, setup{loops: 2, readers: 2, limits: Limits{Sessions: 20, Idle: patience, Stream: patience}})
	l.serve(echo(t, "127.0.0.1").addr)
	before := files(t)
	const workers, clients = 4, 50
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range clients {
				c := l.clientFrom(fmt.Sprintf("127.%d.%d.1", w, i))
				c.insist("hello") // it may have to make room before it gets its answer
				c.Close()
			}
		})
	}
	wg.Wait()
	l.settle()
	if now := files(t) - before; now != l.relay.Len() || now > 20 {
		t.Errorf("%d files for %d sessions", now, l.relay.Len())
	}
	l.close(observe.ServiceRemoved)
	l.wantEachClosedOnce()
}

// Without files there are no new sessions, but those that there are go on.
func TestOutOfFiles(t *testing.T) {
	l := newLab(t, setup{})
	l.serve(echo(t, "127.0.0.1").addr)
	known, newcomer := l.client(), l.client()
	known.ask("hello")

	restore := noMoreFiles(t)
	newcomer.send("lost")
	l.wantDrops("res=1")
	if got := known.ask("hello again"); got != "hello again" {
		t.Errorf("a known client hears %q", got)
	}
	restore()
	if got := newcomer.ask("hello"); got != "hello" {
		t.Errorf("the newcomer hears %q", got)
	}
	if n := l.relay.Len(); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// A Socket that cannot serve for lack of files refuses, and can do so later.
func TestServeWithoutFiles(t *testing.T) {
	l := newLab(t, setup{loops: 2, readers: 2})
	b := echo(t, "127.0.0.1")
	c := l.client()
	restore := noMoreFiles(t)
	err := l.socket.Serve(&server{account: l.account})
	restore()
	if err == nil {
		t.Error("it serves without files")
	}
	c.wantRefused()
	l.serve(b.addr)
	if got, _ := c.insist("hello"); got != "hello" {
		t.Errorf("the client hears %q", got)
	}
}

// noMoreFiles keeps this process from opening any file.
func noMoreFiles(t *testing.T) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}))
	restored := false
	restore = func() {
		if !restored {
			restored = true
			must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
		}
	}
	t.Cleanup(restore)
	return restore
}
