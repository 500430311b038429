package limit

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestConnectionsBeginAtTheRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Rate: Rate{PerSecond: 10, Burst: 3}})
		l.want("iiir", l.comeAll(4, 1)...)
		l.pass(99 * time.Millisecond)
		l.want("r", l.come(1))
		l.pass(time.Millisecond)
		l.want("ir", l.comeAll(2, 1)...)
		l.pass(250 * time.Millisecond)
		l.want("iir", l.comeAll(3, 1)...)
		l.pass(50 * time.Millisecond) // half a token was left
		l.want("ir", l.comeAll(2, 1)...)
		l.pass(time.Hour)
		l.want("iiir", l.comeAll(4, 1)...)
	})
}

func TestWhoWaitsForTheRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Rate: Rate{PerSecond: 10, Burst: 1}, Wait: 250 * time.Millisecond})
		g := l.comeAll(5, 1)
		l.want("iwwrr", g...) // the fourth would have its token after 300 ms
		l.pass(time.Second)
		l.want("iii", g[:3]...)
		for i, want := range []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 0, 0} {
			if g[i].took != want {
				t.Errorf("%d has waited %s, want %s", i, g[i].took, want)
			}
		}
		for _, g := range g[:3] {
			l.end(g)
		}
		l.empty()
	})
}

func TestANewcomerDoesNotTakeTheTokenOfOneThatWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Rate: Rate{PerSecond: 10, Burst: 1}, Wait: time.Second})
		g := l.comeAll(2, 1)
		l.mu.Lock()
		l.timer.Stop() // it is late
		l.mu.Unlock()
		l.pass(150 * time.Millisecond)
		l.want("iw", g...)
		newcomer := l.come(1)
		l.want("iiw", g[0], g[1], newcomer)
	})
}

// A token is for a connection that begins.
func TestWhoIsKeptOutTakesNoToken(t *testing.T) {
	rate := Rate{PerSecond: 1, Burst: 2}
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{PerClient: 1, Connections: 2, Rate: rate})
		l.roomFor(1)
		first := l.come(1)
		l.want("icpp", first, l.come(1), l.come(2), l.come(3))
		l.roomFor(9)
		l.want("il", l.come(2), l.come(3))
		l.end(first)
		l.want("r", l.come(3))
	})
	t.Run("waiting", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			l := newLab(t, Limits{Rate: rate, Wait: time.Second})
			l.roomFor(1)
			first, waits := l.come(1), l.come(2)
			l.want("iw", first, waits)
			l.pass(time.Second)
			l.want("ip", first, waits)
			l.end(first)
			l.roomFor(9)
			l.want("iiw", l.comeAll(3, 1)...)
		})
	})
}

// What a crowd did before a long wait for something else does not add up: those that
// wait begin at the rate when there is room at last.
func TestACrowdThatHasWaitedBeginsAtTheRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Connections: 4, Rate: Rate{PerSecond: 1, Burst: 4}, Wait: 10 * time.Second})
		in, crowd := l.comeAll(4, 1), l.comeAll(4, 2)
		l.pass(2 * time.Second)
		for _, g := range in {
			l.end(g)
		}
		l.want("iiww", crowd...)
		l.pass(time.Second)
		l.want("iiiw", crowd...)
		l.pass(time.Second)
		l.want("iiii", crowd...)
	})
}

func TestARateIsSetWhileSomeWaitForIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, Limits{Rate: Rate{PerSecond: 0.1, Burst: 1}, Wait: time.Minute})
		g := l.comeAll(5, 1)
		l.want("iwwww", g...)
		l.pass(5 * time.Second) // half a token is there
		l.Set(Limits{Rate: Rate{PerSecond: 1, Burst: 1}, Wait: time.Minute})
		synctest.Wait()
		l.want("wwww", g[1:]...)
		l.pass(time.Second / 2)
		l.want("iwww", g[1:]...)
		l.pass(time.Second)
		l.want("iiww", g[1:]...)
		l.Set(Limits{Rate: Rate{PerSecond: 1, Burst: 2}, Wait: time.Minute})
		synctest.Wait()
		l.want("iiiw", g[1:]...)
		l.Set(Limits{})
		synctest.Wait()
		l.want("iiii", g[1:]...)
	})
}

func TestARateThatStaysIsNotBegunAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		limits := Limits{Rate: Rate{PerSecond: 1, Burst: 2}}
		l := newLab(t, limits)
		l.want("ii", l.comeAll(2, 1)...)
		for range 10 {
			l.Set(limits)
			l.want("r", l.come(1))
		}
		l.pass(time.Second)
		l.Set(limits)
		l.want("ir", l.comeAll(2, 1)...)
	})
}

func TestExtremeRates(t *testing.T) {
	for _, c := range []struct {
		rate   Rate
		states string
		again  time.Duration // until the next one after these
	}{
		{Rate{math.NaN(), 1}, "iiii", 0},
		{Rate{math.Inf(-1), 1}, "iiii", 0},
		{Rate{1e-300, 2}, "iirr", time.Hour},
		{Rate{1e-300, math.MinInt}, "irrr", time.Hour},
		{Rate{1e-300, math.MaxInt}, "iiii", 0},
		{Rate{math.Inf(1), 1}, "irrr", 1},
		{Rate{1e300, 3}, "iiir", 1},
		{Rate{1e10, math.MaxInt}, "iiii", 0},
	} {
		bubble(t, func(t *testing.T) {
			l := newLab(t, Limits{Rate: c.rate})
			for range 2 { // the second time changes nothing
				l.Set(Limits{Rate: c.rate})
			}
			l.want(c.states, l.comeAll(4, 1)...)
			if c.again > 0 {
				l.pass(c.again - 1)
				l.want("r", l.come(1))
				l.pass(1)
			}
			l.want("i", l.come(1))
			l.Set(Limits{Rate: Rate{1e300, 1}})
			l.Set(Limits{Rate: Rate{1e-300, math.MaxInt}})
			l.Set(Limits{Rate: Rate{1, 1}})
		})
	}
}
