package limit

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func endpoint(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80)
}

// seeker is a connection that was admitted and looks for an endpoint.
type seeker struct {
	guest
	from  *guest
	got   netip.AddrPort
	leave func()
}

// seek has a connection wait for one of these endpoints.
func (l *lab) seek(from *guest, full ...int) *seeker {
	ctx, cancel := context.WithCancelCause(l.Context())
	s := &seeker{guest: guest{judged: make(chan struct{}), giveUp: cancel}, from: from}
	var list []netip.AddrPort
	for _, i := range full {
		list = append(list, endpoint(i))
	}
	start := time.Now()
	go func() {
		defer close(s.judged)
		s.got, s.leave, s.err = from.visit.WaitEndpoint(ctx, list)
		s.took = time.Since(start)
	}()
	synctest.Wait()
	return s
}

// connect takes a place at an endpoint, which has to be there.
func (l *lab) connect(i int) (leave func()) {
	l.Helper()
	left, ok := l.Endpoint(endpoint(i))
	if !ok {
		l.Fatalf("endpoint %d is full", i)
	}
	return func() { left(); synctest.Wait() }
}

func (l *lab) full(i int) {
	l.Helper()
	if _, ok := l.Endpoint(endpoint(i)); ok {
		l.Fatalf("endpoint %d is not full", i)
	}
}

func (l *lab) wantAt(s *seeker, i int) {
	l.Helper()
	l.want("i", &s.guest)
	if s.got != endpoint(i) {
		l.Fatalf("it has %s, want %s", s.got, endpoint(i))
	}
}

func TestAnEndpointIsFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{PerEndpoint: 2})
		one, two, other := l.connect(1), l.connect(1), l.connect(2)
		l.full(1)
		two()
		two = l.connect(1)
		l.full(1)
		one()
		two()
		other()
		l.empty()
	})
}

func TestAllEndpointsAreFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{PerEndpoint: 1, Wait: time.Minute})
		g := l.comeAll(6, 1)
		at1, at2, at3 := l.connect(1), l.connect(2), l.connect(3)
		a, b, c, d := l.seek(g[3], 1, 2), l.seek(g[4], 1, 2), l.seek(g[5], 3, 2), l.seek(g[0], 1)
		l.want("wwww", &a.guest, &b.guest, &c.guest, &d.guest)
		if l.Waiting() != 4 || l.whole.Waiting() != 4 {
			t.Errorf("%d and %d wait", l.Waiting(), l.whole.Waiting())
		}
		at3()
		l.wantAt(c, 3) // it is the first that wants it
		at2()
		l.wantAt(a, 2)
		l.full(2) // a newcomer comes after those that wait
		at1()
		l.wantAt(b, 1)
		a.leave()
		l.want("w", &d.guest) // the other set of endpoints is none of its business
		l.connect(2)()
		b.leave()
		synctest.Wait()
		l.wantAt(d, 1)
		c.leave()
		d.leave()
		for _, g := range g {
			l.end(g)
		}
		l.empty()
	})
}

func TestAnEndpointIsLeftBeforeTheWaitBegins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{PerEndpoint: 1, Wait: time.Minute})
		g := l.come(1)
		l.connect(1)
		leave := l.connect(2)
		l.full(1)
		l.full(2)
		leave()
		s := l.seek(g, 1, 2)
		l.wantAt(s, 2)
		if s.took != 0 {
			t.Errorf("it took %s", s.took)
		}
	})
}

// The wait of a connection is the same wherever it waits.
func TestTheWaitForAnEndpointIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Connections: 1, PerEndpoint: 1, Wait: 5 * time.Second})
		first, g := l.come(1), l.come(1)
		l.pass(3 * time.Second)
		l.end(first)
		leave := l.connect(1)
		s := l.seek(g, 1)
		l.pass(time.Second)
		leave()
		l.wantAt(s, 1)
		leave = s.leave
		s = l.seek(g, 1)
		l.pass(time.Minute)
		l.want("e", &s.guest)
		if text := s.err.Error(); s.took != time.Second || text != "each endpoint has its 1 connections, after a wait of 1s" {
			t.Errorf("it took %s: %s", s.took, text)
		}
		s = l.seek(g, 1)
		l.want("e", &s.guest) // nothing is left
		if s.took != 0 {
			t.Errorf("it took %s", s.took)
		}
		leave()
		l.end(g)
		l.empty()
	})
}

func TestWhoMayNotWaitForAnEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{PerEndpoint: 1})
		l.connect(1)
		s := l.seek(l.come(1), 1)
		l.want("e", &s.guest)

		l = newLab(t, Limits{PerEndpoint: 1, Wait: time.Minute})
		l.setRoom(Room{plenty().Connections, 1})
		l.connect(1)
		none, one, two := l.seek(l.come(1)), l.seek(l.come(1), 1), l.seek(l.come(1), 1)
		l.want("ewe", &none.guest, &one.guest, &two.guest)
		why := errors.New("it is over")
		one.giveUp(why)
		synctest.Wait()
		if one.err != why || l.Waiting() != 0 {
			t.Errorf("%v, %d wait", one.err, l.Waiting())
		}
	})
}

func TestALimitOfEndpointsIsSetWhileSomeWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		limits := Limits{PerEndpoint: 1, Wait: time.Minute}
		l := newLab(t, limits)
		l.connect(1)
		first := l.connect(2)
		a, b, c, d := l.seek(l.come(1), 1), l.seek(l.come(1), 1, 2), l.seek(l.come(1), 1, 2), l.seek(l.come(1), 2)
		limits.PerEndpoint = 2
		l.Set(limits)
		synctest.Wait()
		l.wantAt(a, 1)
		l.wantAt(b, 2)
		l.want("ww", &c.guest, &d.guest)
		limits.PerEndpoint = 1
		l.Set(limits)
		first()
		l.want("ww", &c.guest, &d.guest) // there are still too many
		b.leave()
		synctest.Wait()
		l.wantAt(c, 2)
		limits.PerEndpoint = 0
		l.Set(limits)
		synctest.Wait()
		l.wantAt(d, 2)
		l.connect(1)
		l.connect(1)
		d.leave() // it was not counted
		limits.PerEndpoint = 1
		l.Set(limits)
		l.full(2)
		l.full(1)
		c.leave()
		l.connect(2)
	})
}

func TestEndpointsComeWhileSomeWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{PerEndpoint: 1, Wait: time.Minute})
		g := l.comeAll(2, 1)
		l.connect(1)
		a, b := l.seek(g[0], 1), l.seek(g[1], 1)
		l.EndpointsChanged()
		synctest.Wait()
		for _, s := range []*seeker{a, b} {
			l.want("i", &s.guest)
			if s.got.IsValid() {
				t.Errorf("it has %s", s.got)
			}
			s.leave()
		}
		l.connect(2)
		l.full(1)
		l.end(g[0])
		l.end(g[1])
	})
}
