package proxier

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The loop beats while it waits and while a pass takes its time, and no longer than a pass
// may take.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var beats atomic.Int64
		h := newHeartbeat(func() { beats.Add(1) }, time.Second, time.Minute)
		defer h.stop()
		for _, c := range []struct {
			about string
			do    func()
			want  int64
		}{
			{"a pass of ten seconds", func() { h.during(func() { time.Sleep(10*time.Second + time.Millisecond) }) }, 10},
			{"a pass that hangs for an hour", func() { h.during(func() { time.Sleep(time.Hour) }) }, 60},
			{"a pause of ten seconds", func() { h.pause(t.Context(), 10*time.Second) }, 10},
		} {
			beats.Store(0)
			c.do()
			if got := beats.Load(); got < c.want-1 || got > c.want+1 {
				t.Errorf("%s: %d beats, want %d", c.about, got, c.want)
			}
		}
	})
}

func TestNobodyListensToTheHeartbeat(t *testing.T) {
	h := newHeartbeat(nil, 0, time.Minute)
	defer h.stop()
	done := false
	h.during(func() { done = true })
	if !done || !h.pause(t.Context(), time.Millisecond) {
		t.Error("without a listener the loop does not go on")
	}
}
