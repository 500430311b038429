package limit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// plenty is the room of a process whose limit plays no part.
func plenty() Room { return Room{1 << 30, 1 << 30} }

// lab has a Gate with connections that come and go. It lives in a synctest bubble:
// after each step everything has settled.
type lab struct {
	*testing.T
	*Gate
	room *atomic.Pointer[Room]
}

func newLab(t *testing.T, limits Limits) *lab {
	l := &lab{T: t, room: new(atomic.Pointer[Room])}
	l.setRoom(plenty())
	l.Gate = NewGate(limits, NewWhole(func() Room { return *l.room.Load() }))
	return l
}

// another Gate of the same process.
func (l *lab) another(limits Limits) *lab {
	return &lab{T: l.T, Gate: NewGate(limits, l.whole), room: l.room}
}

func (l *lab) setRoom(r Room) { l.room.Store(&r) }

// roomFor so many connections is what the process has from now on.
func (l *lab) roomFor(n int) { l.setRoom(Room{Connections: n, Waiting: plenty().Waiting}) }

// guest is one connection, or one that wants to be.
type guest struct {
	visit  Visit
	err    error
	took   time.Duration
	judged chan struct{} // closed when the above are there
	giveUp func(why error)
}

func (g *guest) in() bool { return !g.waiting() && g.err == nil }

func (g *guest) waiting() bool {
	select {
	case <-g.judged:
		return false
	default:
		return true
	}
}

// refused is the limit that kept a guest out.
func (g *guest) refused() Kind {
	var exceeded *Exceeded
	errors.As(g.err, &exceeded)
	if exceeded == nil {
		return ""
	}
	return exceeded.Limit
}

func addr(client int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(client >> 8), byte(client)})
}

// come has a client ask for a connection.
func (l *lab) come(client int) *guest {
	ctx, cancel := context.WithCancelCause(l.Context())
	g := &guest{judged: make(chan struct{}), giveUp: cancel}
	start := time.Now()
	go func() {
		defer close(g.judged)
		g.visit, g.err = l.Enter(ctx, addr(client))
		g.took = time.Since(start)
	}()
	synctest.Wait()
	return g
}

func (l *lab) comeAll(n, client int) (list []*guest) {
	for range n {
		list = append(list, l.come(client))
	}
	return list
}

func (l *lab) end(g *guest) {
	l.Helper()
	if !g.in() {
		l.Fatalf("who is to leave is not in: %v", g.err)
	}
	g.visit.Leave()
	synctest.Wait()
}

// pass lets time pass.
func (l *lab) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// want checks the states of guests, one letter each.
func (l *lab) want(states string, guests ...*guest) {
	l.Helper()
	got := ""
	for _, g := range guests {
		got += l.state(g)
	}
	if got != states {
		l.Fatalf("the guests are %q, want %q", got, states)
	}
}

// state is where a guest is: i for in, w for waiting, c, l, e, r or p for refused by
// the limit of clients, of connections, of endpoints, of the rate or of the process,
// and x for any other error.
func (l *lab) state(g *guest) string {
	switch {
	case g.in():
		return "i"
	case g.waiting():
		return "w"
	}
	return map[Kind]string{PerClient: "c", Connections: "l", PerEndpoint: "e", ConnectionRate: "r", Process: "p", "": "x"}[g.refused()]
}

// empty checks that nothing is left of all that came.
func (l *lab) empty() {
	l.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endpoints.mu.Lock()
	defer l.endpoints.mu.Unlock()
	if left := fmt.Sprint(l.Len(), l.Waiting(), l.clients, l.queue.Len(), l.endpoints.n, l.endpoints.queue.Len(),
		l.whole.Len(), l.whole.Waiting(), l.whole.gates, l.whole.lined.Load()); left != "0 0 map[] 0 map[] 0 0 0 [] 0" {
		l.Errorf("left: %s", left)
	}
}

// bubble runs a test whose times are exact and take none.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}
