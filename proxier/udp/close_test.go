package udp

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// Close ends everything: each session once, with the reason, and all files.
func TestCloseEndsEverything(t *testing.T) {
	before := files(t)
	goroutines := runtime.NumGoroutine()
	l := newLab(t, setup{loops: 2, readers: 2})
	a, b := echo(t, "127.0.0.1"), mute(t, "127.0.0.1")
	l.serve(a.addr)
	var clients []*client
	for range 20 {
		c := l.client()
		c.ask("hello")
		clients = append(clients, c)
	}
	moving := clients[0]
	l.serve(b.addr)
	moving.send("to another endpoint") // so one session waits for its last replies
	b.sender(t)

	l.close(observe.ServiceRemoved)
	l.wantEachClosedOnce()
	for _, s := range l.ended() {
		if s.Reason != observe.ServiceRemoved || s.In != 1 {
			t.Errorf("a session tells %+v", s)
		}
	}
	if l.relay.Len() != 0 || l.group.Len() != 0 {
		t.Errorf("%d and %d sessions are left", l.relay.Len(), l.group.Len())
	}
	for _, c := range clients {
		c.Close()
	}
	a.close()
	b.close()
	eventually(t, "files and goroutines as before", func() bool {
		return files(t) == before && runtime.NumGoroutine() <= goroutines
	})
}

// A session's time may be over while its Socket is closed. It ends once, and its
// file's number, which others may have by now, is left alone.
func TestASessionEndsOnce(t *testing.T) {
	l := newLab(t, setup{})
	l.serve(echo(t, "127.0.0.1").addr)
	l.client().ask("hello")
	loop := l.relay.loops[0]
	over := l.relay.table.expired(l.relay.table.now() + time.Hour)
	l.socket.Close(observe.ServiceRemoved)
	another := echo(t, "127.0.0.1")
	for _, e := range over {
		loop.do(e.session.expire)
		loop.do(func() { e.session.evict(loop) })
	}
	l.closed = true
	l.relay.Close()
	if got := l.reasons(); len(over) != 1 || len(got) != 1 || got[0] != observe.ServiceRemoved {
		t.Errorf("%d are over, reasons %v", len(over), got)
	}
	if got := dial(t, nil, another.addr).ask("hello"); got != "hello" {
		t.Errorf("another socket hears %q", got)
	}
}

// One Socket of a Relay goes; the other one does not notice.
func TestCloseOfOneSocket(t *testing.T) {
	l := newLab(t, setup{})
	b := echo(t, "127.0.0.1")
	l.serve(b.addr)
	other := &lab{account: &account{drops: map[observe.DropCause]int{}}, t: t, relay: l.relay, group: l.group}
	var err error
	other.socket, err = l.relay.Listen(dead(t, "127.0.0.1"), l.group)
	must(t, err)
	other.serve(b.addr)
	stays, goes := l.client(), other.client()
	stays.ask("hello")
	goes.ask("hello")
	other.socket.Close(observe.ServiceRemoved)
	other.wantReasons(observe.ServiceRemoved)
	goes.wantRefused()
	if got := stays.ask("hello again"); got != "hello again" || len(l.ended()) != 0 {
		t.Errorf("the other client hears %q, %v have ended", got, l.ended())
	}
}

// Drain waits for a reply that is on its way.
func TestDrainWaitsForAReply(t *testing.T) {
	l := newLab(t, setup{})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	c := l.client()
	c.send("hello")
	session := b.sender(t)
	drained := make(chan struct{})
	go func() { defer close(drained); l.relay.Drain(t.Context(), time.Hour) }()
	select {
	case <-drained:
		t.Error("Drain does not wait")
	case <-time.After(50 * time.Millisecond): // some of its ticks
	}
	b.conn.WriteToUDPAddrPort([]byte("at last"), session)
	<-drained
	if got := c.hear(); got != "at last" {
		t.Errorf("the client hears %q", got)
	}
}

// It does not wait for clients that have their replies, nor for those that never
// got any: not longer than it has patience.
func TestDrainDoesNotWaitForNothing(t *testing.T) {
	l := newLab(t, setup{})
	l.serve(echo(t, "127.0.0.1").addr)
	l.client().ask("hello")
	l.relay.Drain(t.Context(), time.Hour)

	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	oneWay := l.client()
	oneWay.send("a measurement")
	b.sender(t)
	stop := loopOf(func() { // as such clients do
		oneWay.Write([]byte("a measurement"))
		time.Sleep(time.Millisecond)
	})
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l.relay.Drain(ctx, 100*time.Millisecond)
	if ctx.Err() != nil {
		t.Error("Drain waits for a client that only sends")
	}
}

// It ends with its context.
func TestDrainIsStopped(t *testing.T) {
	l := newLab(t, setup{})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	l.client().send("hello")
	b.sender(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.relay.Drain(ctx, time.Hour)
}
