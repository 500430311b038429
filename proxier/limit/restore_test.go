package limit

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// restore counts in a connection of an earlier process.
func (l *lab) restore(client int) *guest {
	g := &guest{visit: l.Restore(addr(client), 0), judged: make(chan struct{})}
	close(g.judged)
	synctest.Wait()
	return g
}

// An upgrade to narrower limits: those that are there stay, and nobody comes before as many
// have left as there are too many.
func TestWhoWasAdmittedBeforeStays(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		room   int
		kind   string
	}{
		"connections": {Limits{Connections: 2}, 100, "l"},
		"client":      {Limits{PerClient: 2}, 100, "c"},
		"process":     {Limits{}, 2, "p"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLab(t, c.limits)
				l.roomFor(c.room)
				var before []*guest
				for range 4 {
					before = append(before, l.restore(1))
				}
				if l.Len() != 4 || l.whole.Len() != 4 || c.limits.bound() && l.Standing(addr(1)).OfClient != 4 {
					t.Errorf("the Gate has %d, the process %d, the client %d", l.Len(), l.whole.Len(), l.Standing(addr(1)).OfClient)
				}
				for _, g := range before[:3] {
					l.want(c.kind, l.come(1))
					l.end(g)
				}
				l.want("i"+c.kind, l.come(1), l.come(1))
				l.end(before[3])
				l.want("i", l.come(1))
			})
		})
	}
}

func TestWhoWasAdmittedBeforeTakesNoToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Rate: Rate{PerSecond: 0.001, Burst: 2}})
		for range 5 {
			l.restore(1)
		}
		l.want("iir", l.comeAll(3, 1)...)
	})
}

// A connection that looked for an endpoint goes on waiting, but no longer than one process
// would have let it.
func TestWaitingGoesOnInTheNextProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		limits := Limits{PerEndpoint: 1, Wait: time.Minute}
		old := newLab(t, limits)
		old.connect(1)
		from := old.come(1)
		s := old.seek(from, 1)
		old.pass(20 * time.Second)
		s.giveUp(errors.New("an upgrade"))
		synctest.Wait()
		old.want("x", &s.guest)
		if left := from.visit.Left(); left != 40*time.Second {
			t.Errorf("%s are left", left)
		}

		l := newLab(t, limits)
		leave := l.RestoreEndpoint(endpoint(1))
		from = &guest{visit: l.Restore(addr(1), from.visit.Left()), judged: from.judged}
		s = l.seek(from, 1)
		l.pass(40 * time.Second)
		l.want("e", &s.guest)
		if s.took != 40*time.Second || from.visit.Left() != 0 {
			t.Errorf("it has waited %s more, %s are left", s.took, from.visit.Left())
		}
		leave()
		l.end(from)
		l.empty()
	})
}

func TestWhoHasWaitedEntersAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Connections: 1, Wait: time.Minute})
		first, start := l.restore(1), time.Now()
		_, err := l.EnterAgain(t.Context(), addr(2), 20*time.Second)
		if exceeded := (&Exceeded{}); !errors.As(err, &exceeded) || exceeded.Waited != 20*time.Second || time.Since(start) != 20*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if _, err := l.EnterAgain(t.Context(), addr(2), 0); err == nil || time.Since(start) != 20*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		l.end(first)
		v, err := l.EnterAgain(t.Context(), addr(2), time.Second)
		if err != nil || v.Left() != time.Second {
			t.Errorf("%v, %s are left", err, v.Left())
		}
		v.Leave()
		l.empty()
	})
}

func TestPlacesAtEndpointsAreRestored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{PerEndpoint: 2})
		var leave []func()
		for range 3 {
			leave = append(leave, l.RestoreEndpoint(endpoint(1)))
		}
		l.full(1)
		leave[0]()
		l.full(1)
		leave[1]()
		l.connect(1)()
		leave[2]()
		l.empty()

		l.Set(Limits{})
		leave[0] = l.RestoreEndpoint(endpoint(1)) // as Endpoint: it is not counted
		l.Set(Limits{PerEndpoint: 1})
		l.connect(1)()
		leave[0]()
		l.empty()
	})
}

func TestTheBurstIsNotGivenAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rate := Rate{PerSecond: 10, Burst: 3}
		old := newLab(t, Limits{Rate: rate})
		old.want("ii", old.comeAll(2, 1)...)
		old.pass(50 * time.Millisecond)
		state := old.State()
		if state.Missing != 1.5 {
			t.Errorf("the state is %+v", state)
		}

		l := newLab(t, Limits{Rate: rate})
		l.SetState(state)
		l.want("ir", l.comeAll(2, 1)...)
		l.pass(50 * time.Millisecond)
		l.want("ir", l.comeAll(2, 1)...)

		l = newLab(t, Limits{Rate: Rate{PerSecond: 1, Burst: 1}}) // the next process has another rate
		l.SetState(state)
		l.want("r", l.come(1))
		l.pass(time.Second)
		l.want("ir", l.comeAll(2, 1)...)

		l = newLab(t, Limits{})
		l.SetState(state)
		l.want("iiiii", l.comeAll(5, 1)...)
		if l.State() != (State{}) {
			t.Errorf("the state is %+v", l.State())
		}
	})
}

func BenchmarkRestore(b *testing.B) {
	for name, limits := range map[string]Limits{"unlimited": {}, "limited": {PerClient: 10}} {
		b.Run(name, func(b *testing.B) {
			g := NewGate(limits, NewWhole(plenty))
			clients := make([]netip.Addr, 1000)
			for i := range clients {
				clients[i] = addr(i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				v := g.Restore(clients[i%len(clients)], 0)
				v.Leave()
			}
		})
	}
}
