package limit

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachLimitKeepsConnectionsOut(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		room   int
		states string // of two connections of one client and two of another
		text   string
	}{
		"none":        {Limits{}, 100, "iiii", ""},
		"below zero":  {Limits{Connections: -1, PerClient: -1, PerEndpoint: -1, Rate: Rate{PerSecond: -1}, Wait: -1}, 100, "iiii", ""},
		"connections": {Limits{Connections: 3}, 100, "iiil", "the Service port has its 3 connections"},
		"client":      {Limits{PerClient: 1}, 100, "icic", "the client has its 1 connections"},
		"rate":        {Limits{Rate: Rate{PerSecond: 0.5, Burst: 3}}, 100, "iiir", "more than 0.5 connections a second begin"},
		"no burst":    {Limits{Rate: Rate{PerSecond: 10}}, 100, "irrr", "more than 10 connections a second begin"},
		"process":     {Limits{}, 2, "iipp", "usher has its 2 connections (its limit of open files allows no more)"},
		"several":     {Limits{Connections: 2, PerClient: 1}, 2, "icic", "the client has its 1 connections"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLab(t, c.limits)
				l.roomFor(c.room)
				guests := []*guest{l.come(1), l.come(1), l.come(2), l.come(2)}
				l.want(c.states, guests...)
				for _, g := range guests {
					if g.in() {
						l.end(g)
					} else if g.took != 0 || g.visit != (Visit{}) {
						t.Errorf("refused after %s with %+v", g.took, g.visit)
					}
				}
				if last := guests[3].err; last != nil && last.Error() != c.text {
					t.Errorf("the error says %q", last)
				}
				l.empty()
			})
		})
	}
}

func TestWhoLeavesMakesRoomForOne(t *testing.T) {
	for name, limits := range map[string]Limits{
		"connections": {Connections: 2, Wait: time.Minute},
		"client":      {PerClient: 2, Wait: time.Minute},
		"process":     {Wait: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLab(t, limits)
				if name == "process" {
					l.roomFor(2)
				}
				g := l.comeAll(6, 1)
				if name == "client" {
					l.want("iiwwcc", g...)
					g = g[:4]
				} else {
					l.want("iiwwww", g...)
				}
				if l.Waiting() != len(g)-2 || l.whole.Waiting() != len(g)-2 {
					t.Errorf("%d and %d wait", l.Waiting(), l.whole.Waiting())
				}
				l.end(g[1])
				l.want("iiiw", g[:4]...)
				l.end(g[0])
				l.want("iiii", g[:4]...)
				for _, g := range g[2:] {
					l.end(g)
				}
				if l.Len() != 0 || l.Waiting() != 0 {
					t.Errorf("%d are in, %d wait", l.Len(), l.Waiting())
				}
				l.empty()
			})
		})
	}
}

func TestTheWaitIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Connections: 1, Wait: 5 * time.Second})
		first, late := l.come(1), l.come(2)
		l.pass(time.Second)
		later := l.come(3)
		l.pass(4 * time.Second)
		l.want("ilw", first, late, later)
		if text := late.err.Error(); text != "the Service port has its 1 connections, after a wait of 5s" {
			t.Errorf("the error says %q", text)
		}
		l.end(first)
		l.want("i", later)
		l.end(later)
		l.empty()
	})
}

// The client has gone, or usher stops.
func TestWhoDoesNotWantToWaitAnyMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Connections: 1, Wait: 5 * time.Second})
		g := l.comeAll(4, 1)
		why := errors.New("it is over")
		g[1].giveUp(why)
		synctest.Wait()
		if g[1].err != why {
			t.Errorf("the error is %v", g[1].err)
		}
		l.end(g[0])
		l.want("xiw", g[1:]...)
		g[3].giveUp(why)
		synctest.Wait()
		l.end(g[2])
		l.empty()
	})
}

func TestAClientAtItsLimitHoldsUpNobodyElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Connections: 3, PerClient: 1, Wait: time.Minute})
		greedy, again := l.come(1), l.come(1)
		b, c, d, e := l.come(2), l.come(3), l.come(4), l.come(5)
		l.want("iwiiww", greedy, again, b, c, d, e)
		l.end(b)
		l.want("wiw", again, d, e)
		l.end(greedy) // now again is the one that came first
		l.want("iiw", again, d, e)
		l.end(again)
		l.want("i", e)
	})
}

func TestOneClientTakesNotAllRoomToWait(t *testing.T) {
	for _, c := range []struct{ perClient, waiting int }{{2, 2}, {600, maxWaiting / 4}} {
		bubble(t, func(t *testing.T) {
			l := newLab(t, Limits{Connections: c.perClient, PerClient: c.perClient, Wait: time.Minute})
			l.comeAll(c.perClient+c.waiting, 1)
			if l.Waiting() != c.waiting {
				t.Errorf("%d wait, want %d", l.Waiting(), c.waiting)
			}
			l.want("cw", l.come(1), l.come(2))
		})
	}
}

func TestTooManyWait(t *testing.T) {
	t.Run("at a Gate", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			l := newLab(t, Limits{Connections: 1, Wait: time.Minute})
			g := l.comeAll(1+maxWaiting, 1)
			l.want("l", l.come(1))
			l.want("w", g[maxWaiting])
			l.end(g[0])
			l.want("iww", g[1], g[2], l.come(1))
		})
	})
	t.Run("in the process", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			l := newLab(t, Limits{Connections: 1, Wait: time.Minute})
			l.setRoom(Room{plenty().Connections, 3})
			other := l.another(Limits{PerClient: 1, Wait: time.Minute})
			g := append(l.comeAll(3, 1), other.comeAll(2, 1)...)
			l.want("iwwiw", g...)
			l.want("lc", l.come(1), other.come(1))
			other.end(g[3])
			l.want("w", l.come(1))
		})
	})
}

// An IPv4 client is the same whether it comes to an IPv4 or to an IPv6 socket.
func TestWhatIsOneClient(t *testing.T) {
	enter := func(g *Gate, client string) error {
		_, err := g.Enter(context.Background(), netip.MustParseAddr(client))
		return err
	}
	for _, c := range []struct {
		one, other string
		same       bool
	}{
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"2001:db8::1", "2001:db8::2", false},
		{"fe80::1%eth0", "fe80::1%eth1", false},
		{"fe80::1%eth0", "fe80::1%eth0", true},
	} {
		g := NewGate(Limits{PerClient: 1}, NewWhole(plenty))
		if err := enter(g, c.one); err != nil {
			t.Error(err)
		}
		if err := enter(g, c.other); (err != nil) != c.same {
			t.Errorf("%s and %s: %v", c.one, c.other, err)
		}
	}
	g := NewGate(Limits{PerClient: 1}, NewWhole(plenty))
	for i := range 2 {
		if _, err := g.Enter(context.Background(), netip.Addr{}); (err != nil) != (i == 1) {
			t.Errorf("without an address: %v", err)
		}
	}
}

func TestLimitsAreSetWhileConnectionsCome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{})
		before := l.comeAll(3, 1)
		l.Set(Limits{Connections: 4, Wait: time.Minute})
		g := l.comeAll(5, 1)
		l.want("iwwww", g...) // those before count
		l.Set(Limits{Connections: 6, Wait: time.Second})
		synctest.Wait()
		l.want("iiiww", g...)
		l.pass(2 * time.Second)
		l.want("ww", g[3:]...) // they came with a minute
		l.Set(Limits{Connections: 1})
		synctest.Wait()
		l.end(before[0])
		l.want("iiiww", g...)
		l.Set(Limits{})
		synctest.Wait()
		l.want("ii", g[3:]...)
		for _, g := range append(before[1:], g...) {
			l.end(g)
		}
		l.empty()
	})
}

func TestALimitOfClientsIsSetLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{})
		before := l.come(1)
		l.Set(Limits{PerClient: 1})
		counted := l.come(1)
		l.want("iic", before, counted, l.come(1))
		l.Set(Limits{})
		l.come(1)
		l.end(before)
		l.Set(Limits{PerClient: 1, Wait: time.Minute})
		waits := l.come(1)
		l.want("w", waits)
		l.Set(Limits{PerClient: 2})
		synctest.Wait()
		l.want("ic", waits, l.come(1))
	})
}

func TestGatesTakeTurnsWhenTheProcessIsFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newLab(t, Limits{Wait: time.Minute})
		a.roomFor(3)
		b, c := a.another(Limits{Connections: 100, Wait: time.Minute}), a.another(Limits{})
		in := a.comeAll(3, 1)
		crowd, few := a.comeAll(5, 1), b.comeAll(2, 1)
		a.want("iiiwwwwwwwp", append(append(append(in, crowd...), few...), c.come(1))...)
		a.end(in[0])
		a.want("iwwwwww", append(crowd, few...)...)
		a.end(in[1])
		a.want("iwwwwiw", append(crowd, few...)...)
		a.end(in[2])
		a.want("iiwwwiw", append(crowd, few...)...)
		b.end(few[0])
		a.want("iiwwwii", append(crowd, few...)...)
		c.want("p", c.come(1))
		b.end(few[1])
		a.want("iiiww", crowd...)
	})
}

func TestAPlaceThatTheFirstInLineCannotUseGoesToTheNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newLab(t, Limits{Wait: time.Minute})
		a.roomFor(1)
		b, c := a.another(Limits{Wait: time.Minute}), a.another(Limits{})
		in, gone, next := a.come(1), a.come(1), b.come(1)
		gone.giveUp(errors.New("gone"))
		synctest.Wait()
		a.want("ixw", in, gone, next)
		a.end(in)
		b.want("i", next)
		b.end(next)
		c.want("i", c.come(1))
	})
}

// There is more room because a listener or a UDP session is gone.
func TestTheProcessHasMoreRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Wait: time.Minute})
		l.roomFor(1)
		g := l.comeAll(3, 1)
		l.want("iww", g...)
		l.roomFor(2)
		l.whole.Changed()
		synctest.Wait()
		l.want("iiw", g...)
		l.roomFor(4)
		l.want("i", l.come(2)) // whoever comes next finds it, but comes after them
		l.want("iii", g...)
		waits, hasty := l.come(1), l.another(Limits{})
		l.roomFor(6)
		l.want("iip", hasty.come(1), waits, hasty.come(1)) // there was room for both
	})
}

func TestAVisitEndsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Connections: 2})
		g := l.comeAll(2, 1)
		l.end(g[0])
		g[0].visit.Leave()
		new(Visit).Leave()
		if l.Len() != 1 || l.whole.Len() != 1 {
			t.Errorf("%d and %d are in", l.Len(), l.whole.Len())
		}
	})
}
