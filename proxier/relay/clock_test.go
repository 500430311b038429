package relay

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"weak"
)

// still is a clock that calls nobody by itself.
func still(now tick) *Clock {
	c := NewClock()
	c.busy, c.now = true, now
	return c
}

// gathered takes those that are due.
func (c *Clock) gathered(to tick) map[*Relay]bool {
	c.gather(to)
	found := map[*Relay]bool{}
	for c.due != nil {
		found[c.due] = true
		c.take(c.due)
	}
	return found
}

func TestClockCallsAtTheTickThatWasAskedFor(t *testing.T) {
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	c, all := still(1000), make([]*Relay, 500)
	due := map[*Relay]tick{}
	for i := range all {
		all[i] = &Relay{}
	}
	for range 2000 {
		for range random.IntN(20) {
			r := all[random.IntN(len(all))]
			switch at := c.now + 1 + tick(random.IntN(3*wheelSize)); {
			case random.IntN(3) == 0:
				c.forget(r)
				delete(due, r)
			case due[r] == 0 || at < due[r]: // it is called at the earlier one of two
				due[r] = at
				fallthrough
			default:
				c.call(r, at)
			}
		}
		// Mostly one step after the other; sometimes it was late, or slept for long.
		to := c.now + 1 + []tick{0, 0, 0, tick(random.IntN(50)), tick(random.IntN(3 * wheelSize))}[random.IntN(5)]
		found := c.gathered(to)
		for r, at := range due {
			if found[r] != (at <= to) {
				t.Fatalf("at %d: a relay that is due at %d was called: %v", to, at, found[r])
			}
			if found[r] {
				delete(due, r)
				delete(found, r)
			}
		}
		if len(found) > 0 {
			t.Fatalf("at %d: %d relays were called that are not in the clock", to, len(found))
		}
	}
}

// What is asked for a tick that has passed is due at the next one.
func TestClockCallsAtOnceWhoIsLate(t *testing.T) {
	c, r := still(1000), &Relay{}
	c.call(r, 17)
	if !c.gathered(1001)[r] {
		t.Error("it is not called")
	}
}

func TestClockSleepsWhileThereIsNobody(t *testing.T) {
	c := NewClock()
	defer c.Close()
	s := newSceneWith(t, Settings{Limits: &Limits{Duration: 50 * time.Millisecond}, Clock: c})
	c.mu.Lock()
	wakes := c.wakes
	c.mu.Unlock()
	if wakes == 0 {
		t.Error("it sleeps while a relay waits for it")
	}
	s.end()
	c.turning.Lock() // when the turn is over that has ended the relay
	defer c.turning.Unlock()
	if c.wakes != 0 || c.timer.Stop() {
		t.Error("it wakes up though there is nobody")
	}
}

func TestClosedClockCallsNobody(t *testing.T) {
	c := NewClock()
	c.Close()
	s := newSceneWith(t, Settings{Limits: &Limits{Duration: time.Millisecond}, Clock: c})
	for now().tick() < s.relay.born+ticks(time.Millisecond) {
		time.Sleep(time.Millisecond)
	}
	c.turn() // as if its timer had gone off already
	if c.timer.Stop() {
		t.Error("its timer is set")
	}
	select {
	case r := <-s.result:
		t.Errorf("it has ended a relay: %+v", r)
	default:
	}
	s.client.Close()
	s.backend.Close()
	s.end()
}

// The clock knows thousands of relays for hours, and must keep none that is over.
func TestClockForgetsWhatIsOver(t *testing.T) {
	c := NewClock()
	defer c.Close()
	gone := func() weak.Pointer[Relay] {
		s := newSceneWith(t, Settings{Limits: &Limits{Idle: time.Hour}, Clock: c})
		s.client.Close()
		s.backend.Close()
		s.end()
		return weak.Make(s.relay)
	}()
	for deadline := time.Now().Add(patience); gone.Value() != nil; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("a relay that is over is kept in memory")
		}
	}
}
