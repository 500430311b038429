package dial

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// drain takes all there is.
func drain(t *Tokens) (n int) {
	for n < 100_000 && t.take() {
		n++
	}
	return n
}

func (t *Tokens) connections(n int) {
	for range n {
		t.deposit()
	}
}

func (t *Tokens) want(tt *testing.T, what string, want int) {
	tt.Helper()
	if got := drain(t); got != want {
		tt.Errorf("%s: %d tokens, want %d", what, got, want)
	}
}

func TestTokensOfConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewTokens(Budget{Share: 0.25})
		b.want(t, "at first", 1)
		b.connections(3)
		b.want(t, "after 3 connections", 0)
		b.connections(1)
		b.want(t, "after the 4th", 1)
		b.connections(400)
		time.Sleep(memory - time.Nanosecond)
		b.want(t, "within the time that they are kept", 100)
		b.connections(400)
		time.Sleep(2 * memory)
		b.want(t, "after it", 1)
		time.Sleep(memory + memory/2)
		b.connections(400)
		time.Sleep(memory / 2)
		b.want(t, "in the next period", 100)
		time.Sleep(2 * memory)
		for range 10 { // rare ones add up to one
			b.connections(1)
			time.Sleep(time.Hour)
		}
		b.want(t, "of rare connections", 1)
	})
}

func TestTokensThatFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewTokens(Budget{PerSecond: 3})
		b.want(t, "at first", 30)
		time.Sleep(time.Second)
		b.want(t, "after a second", 3)
		time.Sleep(24 * time.Hour)
		b.connections(1000)
		b.want(t, "after a day", 30)
		b.SetBudget(Budget{PerSecond: 0.01})
		time.Sleep(99 * time.Second)
		b.want(t, "too early", 0)
		time.Sleep(2 * time.Second)
		b.want(t, "in time", 1)
	})
}

func TestBudgetIsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewTokens(Budget{PerSecond: 100})
		b.SetBudget(Budget{PerSecond: 2})
		b.want(t, "after it was lowered", 20)
		b.SetBudget(Budget{})
		time.Sleep(time.Hour)
		b.connections(1000)
		b.want(t, "after it was taken away", 0)
		b.SetBudget(Budget{PerSecond: 1})
		time.Sleep(time.Second)
		b.want(t, "after it was given again", 1)
	})
}

func TestBudgetThatMeansNothing(t *testing.T) {
	for _, x := range []float64{math.NaN(), -1, math.Inf(-1)} {
		if n := drain(NewTokens(Budget{Share: x, PerSecond: x})); n != 0 {
			t.Errorf("%v: %d tokens", x, n)
		}
	}
	b := NewTokens(Budget{Share: math.Inf(1), PerSecond: math.Inf(1)})
	b.connections(10)
	if n := drain(b); n != 100_000 {
		t.Errorf("without end: %d tokens", n)
	}
	var none *Tokens
	none.deposit()
	if n := drain(none); n != 100_000 {
		t.Errorf("nil: %d tokens", n)
	}
}
